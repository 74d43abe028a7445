//! `postrider message`.

use clap::Subcommand;
use postrider_proto::control::v1 as api;

use super::connection::Session;
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
}

pub(super) async fn run(verb: MessageVerb, session: Session, mut out: Output) -> Result<(), Failure> {
    let mut client = session.messages();
    match verb {
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
