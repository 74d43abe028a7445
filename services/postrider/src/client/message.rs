//! `postrider message`.

use clap::{Args, Subcommand};
use postrider_proto::control::v1 as api;

use super::connection::Session;
use super::filter::Care;
use super::order::{self, Words};
use super::output::Output;
use super::table::{Align, Table};
use super::time::{Moment, parse_moment, short};
use super::{Failure, examples};

mod view;
use view::{FoundView, LifeView};

mod life;

/// What can be asked about messages.
#[derive(Debug, Subcommand)]
pub enum MessageVerb {
    /// The life of a message, from accept to end; of what waits: why, until when, and who can lift it
    #[command(after_help = examples(&[
        "message show 01930b0e-5c1a-7def-8000-0123456789ab",
        "message show '<20261122.1@acme.example>' --since 2d",
        "message show 01930b0e-5c1a-7def-8000-0123456789ab -o json",
    ]))]
    Show {
        /// Our id (said at acceptance: `250 2.0.0 queued as <id>`), or the text of the header Message-ID
        id: String,
        /// How far back to look for a header Message-ID [default: 8d, as long as events are kept]
        #[arg(long, value_name = "TIME", value_parser = parse_moment)]
        since: Option<Moment>,
    },
    /// The messages to an address, the newest first
    #[command(after_help = examples(&[
        "message find --to ann@example.net --since 2h",
        "message find --to ann@example.net --since 2026-11-21 --until 2026-11-22 --tenant acme",
    ]))]
    Find {
        /// The recipient's address
        #[arg(long, value_name = "ADDRESS")]
        to: String,
        /// How far back: RFC 3339, or how long ago (10m, 2h, 1d)
        #[arg(long, value_name = "TIME", value_parser = parse_moment, default_value = "1d")]
        since: Moment,
        /// Up to when
        #[arg(long, value_name = "TIME", value_parser = parse_moment)]
        until: Option<Moment>,
        /// Only this tenant's
        #[arg(long, value_name = "TENANT", default_value = "", hide_default_value = true)]
        tenant: String,
        /// At most so many
        #[arg(long, value_name = "COUNT", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=10_000))]
        limit: u32,
    },
    /// Suspend a message until it is released, or the time is over
    #[command(after_help = examples(&["message hold 01930b0e-5c1a-7def-8000-0123456789ab --until 2h"]))]
    Hold {
        /// Our id
        id: String,
        /// When it ends: a time, or in how long (30m, 2h)
        #[arg(long, value_name = "TIME", value_parser = parse_moment)]
        until: Option<Moment>,
        /// How it is meant.
        #[command(flatten)]
        order: OneArgs,
    },
    /// Let a suspended message go on, whatever suspended it
    #[command(after_help = examples(&["message release 01930b0e-5c1a-7def-8000-0123456789ab"]))]
    Release {
        /// Our id
        id: String,
        /// How it is meant.
        #[command(flatten)]
        order: OneArgs,
    },
    /// Retry a message now; what is on hold stays there
    #[command(after_help = examples(&["message flush 01930b0e-5c1a-7def-8000-0123456789ab"]))]
    Flush {
        /// Our id
        id: String,
        /// How it is meant.
        #[command(flatten)]
        order: OneArgs,
    },
    /// End a message without a word to its sender; for good; on hold, too
    #[command(after_help = examples(&[
        "message delete 01930b0e-5c1a-7def-8000-0123456789ab --dry-run",
        "message delete 01930b0e-5c1a-7def-8000-0123456789ab --yes",
    ]))]
    Delete {
        /// Our id
        id: String,
        /// How it is meant.
        #[command(flatten)]
        order: OneArgs,
        /// Do not ask
        #[arg(short, long)]
        yes: bool,
    },
    /// End a message as undeliverable: an event `bounced` with the comment as its reason; on hold, too
    #[command(after_help = examples(&[
        "message bounce 01930b0e-5c1a-7def-8000-0123456789ab --comment 'no such customer' --yes",
    ]))]
    Bounce {
        /// Our id
        id: String,
        /// How it is meant.
        #[command(flatten)]
        order: OneArgs,
        /// Do not ask
        #[arg(short, long)]
        yes: bool,
    },
}

/// How an order about one message is meant.
#[derive(Debug, Args)]
pub struct OneArgs {
    /// Why, for the audit trail
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    comment: String,
    /// Only say how many parts it would concern
    #[arg(long)]
    dry_run: bool,
}

/// An order about one message: tiers are always scanned for it, from the time in its id on.
fn one(action: &str, id: &str, args: &OneArgs) -> api::OrderRequest {
    let verb = if action == "suspend" { "hold" } else { action };
    api::OrderRequest {
        action: action.into(),
        filter: Some(api::QueueFilter { message_id: id.to_owned(), ..api::QueueFilter::default() }),
        scan: true,
        comment: args.comment.clone(),
        command: format!("message {verb}"),
        ..api::OrderRequest::default()
    }
}

pub(super) async fn run(verb: MessageVerb, session: Session, mut out: Output) -> Result<(), Failure> {
    let mut client = session.messages();
    let care = |args: &OneArgs, yes: bool| Care { dry_run: args.dry_run, yes, all: false };
    match verb {
        MessageVerb::Hold { id, until, order: args } => {
            let request = api::OrderRequest { until: order::ending(until), ..one("suspend", &id, &args) };
            order::give(&session, &mut out, request, care(&args, true), Words("suspend", "suspended")).await
        }
        MessageVerb::Release { id, order: args } => {
            let request = one("release", &id, &args);
            order::give(&session, &mut out, request, care(&args, true), Words("release", "released")).await
        }
        MessageVerb::Flush { id, order: args } => {
            let request = one("flush", &id, &args);
            order::give(&session, &mut out, request, care(&args, true), Words("retry", "retried")).await
        }
        MessageVerb::Delete { id, order: args, yes } => {
            let request = one("delete", &id, &args);
            order::give(&session, &mut out, request, care(&args, yes), Words("delete", "deleted")).await
        }
        MessageVerb::Bounce { id, order: args, yes } => {
            let request = one("bounce", &id, &args);
            order::give(&session, &mut out, request, care(&args, yes), Words("bounce", "bounced")).await
        }
        MessageVerb::Show { id, since } => {
            let request = api::GetMessagesRequest { id, since: since.map(Moment::wire) };
            let messages = client.get_messages(request).await?.into_inner().messages;
            let views: Vec<LifeView> = messages.iter().map(LifeView::from).collect();
            out.show(&views, |_, page| {
                for (index, message) in messages.iter().enumerate() {
                    if index > 0 {
                        page.line("");
                    }
                    life::draw(message, page);
                }
            })
        }
        MessageVerb::Find { to, since, until, tenant, limit } => {
            let request = api::FindMessagesRequest {
                to: to.clone(),
                since: Some(since.wire()),
                until: until.map(Moment::wire),
                tenant,
                limit,
            };
            let answer = client.find_messages(request).await?.into_inner();
            let views: Vec<FoundView> = answer.messages.iter().map(FoundView::from).collect();
            out.show(&views, |_, page| {
                let mut table = Table::new(&[
                    ("ACCEPTED", Align::Left),
                    ("MESSAGE", Align::Left),
                    ("TENANT", Align::Left),
                    ("LAST EVENT", Align::Left),
                    ("REPLY", Align::Elastic),
                ]);
                for found in &answer.messages {
                    table.row([
                        short(found.accept_time.as_ref()),
                        found.message_id.clone(),
                        found.tenant.clone(),
                        found.event.clone(),
                        life::reply(found.reply.as_ref()),
                    ]);
                }
                page.table(&table);
                if answer.truncated {
                    page.line(&format!("There are more: only the newest {limit} are shown (--limit)."));
                }
            })?;
            if answer.messages.is_empty() {
                return Err(Failure::NotFound(format!(
                    "no message to {to} in that time (one that no delivery process has taken yet is not found; see `queue summary`)"
                )));
            }
            Ok(())
        }
    }
}
