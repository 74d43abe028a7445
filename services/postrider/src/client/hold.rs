//! `postrider hold`.

use clap::Subcommand;
use postrider_proto::control::v1 as api;
use serde::Serialize;

use super::connection::Session;
use super::filter::{Care, FilterArgs};
use super::order::{self, Meant, Words, many};
use super::output::{Output, Page};
use super::table::{Align, Table};
use super::time::{Moment, parse_moment, rfc3339};
use super::{Failure, examples};

/// What can be done about mail on hold, and about orders that are still in force.
#[derive(Debug, Subcommand)]
pub enum HoldVerb {
    /// Suspend mail that waits and mail yet to come, until it is removed or ends
    ///
    /// At once for what READY holds and for what comes; for what waits in tiers at its next turn, at once with --scan. A
    /// conversation under way is let end. Suspended mail expires too.
    #[command(after_help = examples(&[
        "hold add --tenant acme --campaign 'spring sale' --dry-run",
        "hold add --tenant acme --until 2h --comment 'complaints, ticket 17'",
        "hold add --to-domain example.net --id example-net --scan",
    ]))]
    Add {
        #[command(flatten)]
        filter: Box<FilterArgs>,
        /// Its name [default: one is made]
        #[arg(long, value_name = "NAME", default_value = "", hide_default_value = true)]
        id: String,
        /// When it ends: a time, or in how long (30m, 2h)
        #[arg(long, value_name = "TIME", value_parser = parse_moment)]
        until: Option<Moment>,
        /// Also what waits in tiers, at once
        #[arg(long)]
        scan: bool,
        /// Why, for the audit trail
        #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
        comment: String,
        #[command(flatten)]
        care: Care,
    },
    /// Holds: in force, or ended a moment ago
    #[command(after_help = examples(&["hold list", "hold list --all"]))]
    List {
        /// All orders that are kept: also those that release, delete, bounce or flush, until all mail that they concern has met them
        #[arg(long)]
        all: bool,
    },
    /// End a hold: what it kept goes on. Or withdraw another order of `hold list --all`: what has not met it stays
    #[command(after_help = examples(&["hold remove example-net", "hold remove example-net --dry-run"]))]
    Remove {
        /// Its name
        #[arg(value_name = "NAME")]
        id: String,
        /// Only say how much it concerns
        #[arg(long)]
        dry_run: bool,
    },
}

/// The action of a hold.
const SUSPEND: &str = "suspend";

#[derive(Serialize)]
struct HoldView {
    id: String,
    action: String,
    state: String,
    filter: String,
    until: String,
    scan: bool,
    scanned_time: String,
    made_by: String,
    made_time: String,
    comment: String,
}

pub(super) async fn run(verb: HoldVerb, session: Session, mut out: Output) -> Result<(), Failure> {
    match verb {
        HoldVerb::Add { filter, id, until, scan, comment, care } => {
            let request = api::OrderRequest {
                action: SUSPEND.into(),
                filter: Some(filter.wire()),
                id,
                until: order::ending(until),
                scan,
                comment,
                command: "hold add".into(),
                ..api::OrderRequest::default()
            };
            // Nothing is lost by it: it is not asked about.
            let care = Care { yes: true, ..care };
            order::give(&session, &mut out, request, care, Words("suspend", "suspended")).await
        }
        HoldVerb::List { all } => {
            let request = api::ListOrdersRequest { action: String::new() };
            let orders = session.orders().list_orders(request).await?.into_inner().orders;
            let (wanted, others): (Vec<_>, Vec<_>) =
                orders.into_iter().partition(|order| all || order.action == SUSPEND);
            let views: Vec<HoldView> = wanted.into_iter().map(view).collect();
            out.show(&views, |views, page| {
                if views.is_empty() {
                    page.line(if all { "No order is in force." } else { "Nothing is on hold by an order." });
                    return others_too(others.len(), page);
                }
                let mut table = Table::new(&[
                    ("NAME", Align::Left),
                    ("WHAT", Align::Left),
                    ("STATE", Align::Left),
                    ("MADE", Align::Left),
                    ("BY", Align::Left),
                    ("UNTIL", Align::Left),
                    ("WHICH MAIL", Align::Elastic),
                    ("COMMENT", Align::Elastic),
                ]);
                for view in views {
                    let HoldView { id, action, state, filter, until, made_by, made_time, comment, .. } = view;
                    table.row([id, action, state, made_time, made_by, until, filter, comment].map(Clone::clone));
                }
                page.table(&table);
                others_too(others.len(), page);
            })
        }
        HoldVerb::Remove { id, dry_run } => {
            let request = api::RemoveOrderRequest { id: id.clone(), dry_run, command: "hold remove".into() };
            let answer = session.orders().remove_order(request).await?.into_inner();
            order::show(answer, if dry_run { Meant::DryRemoval(id) } else { Meant::Real }, &mut out)
        }
    }
}

fn others_too(others: usize, page: &mut Page) {
    if others > 0 {
        let orders = many(u64::try_from(others).unwrap_or(u64::MAX), "other order");
        page.line(&format!(
            "{orders} (release, delete, bounce, flush) kept until all mail has met them: hold list --all"
        ));
    }
}

fn view(order: api::StandingOrder) -> HoldView {
    HoldView {
        id: order.id,
        action: order.action,
        state: order.state,
        filter: order.filter,
        until: rfc3339(order.until.as_ref()),
        scan: order.scan,
        scanned_time: rfc3339(order.scanned_time.as_ref()),
        made_by: order.made_by,
        made_time: rfc3339(order.made_time.as_ref()),
        comment: order.comment,
    }
}
