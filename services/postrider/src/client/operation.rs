//! `postrider operation`.

use clap::Subcommand;
use postrider_proto::control::v1 as api;
use serde::Serialize;

use super::connection::Session;
use super::output::Output;
use super::table::{Align, Table};
use super::time::{Moment, parse_moment, rfc3339};
use super::{Failure, examples};

/// What can be asked about the audit trail.
#[derive(Debug, Subcommand)]
pub enum OperationVerb {
    /// What operators did, the newest first: who, when, what, which mail, how much; dry runs too
    ///
    /// COUNT is how much matched when an order was given; empty if counting would have taken long. `scan` is the look through the
    /// tiers that an order asked for: it counts what it brought to its turn.
    #[command(after_help = examples(&[
        "operation list",
        "operation list --since 30d -o json | jq '.[] | select(.command == \"queue delete\")'",
    ]))]
    List {
        /// How far back: RFC 3339, or how long ago (10m, 2h, 1d)
        #[arg(long, value_name = "TIME", value_parser = parse_moment, default_value = "7d")]
        since: Moment,
        /// Up to when
        #[arg(long, value_name = "TIME", value_parser = parse_moment)]
        until: Option<Moment>,
        /// At most so many, the newest
        #[arg(long, value_name = "COUNT", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=10_000))]
        limit: u32,
    },
}

#[derive(Serialize)]
struct EntryView {
    time: String,
    who: String,
    command: String,
    dry_run: bool,
    filter: String,
    order: String,
    comment: String,
    counts: std::collections::BTreeMap<String, u64>,
    outcome: String,
}

impl From<api::OperationEntry> for EntryView {
    fn from(entry: api::OperationEntry) -> Self {
        Self {
            time: rfc3339(entry.time.as_ref()),
            who: entry.who,
            command: entry.command,
            dry_run: entry.dry_run,
            filter: entry.filter,
            order: entry.order,
            comment: entry.comment,
            counts: entry.counts.into_iter().map(|at| (at.place, at.count)).collect(),
            outcome: entry.outcome,
        }
    }
}

pub(super) async fn run(verb: OperationVerb, session: Session, mut out: Output) -> Result<(), Failure> {
    let OperationVerb::List { since, until, limit } = verb;
    let request = api::ListOperationsRequest { since: Some(since.wire()), until: until.map(Moment::wire), limit };
    let answer = session.operations().list_operations(request).await?.into_inner();
    let views: Vec<EntryView> = answer.operations.into_iter().map(EntryView::from).collect();
    out.show(&views, |views, page| {
        if views.is_empty() {
            return page.line("Nothing was done in that time.");
        }
        let mut table = Table::new(&[
            ("TIME", Align::Left),
            ("WHO", Align::Left),
            ("COMMAND", Align::Left),
            ("ORDER", Align::Left),
            ("OUTCOME", Align::Left),
            ("COUNT", Align::Right),
            ("WHICH MAIL", Align::Elastic),
            ("COMMENT", Align::Elastic),
        ]);
        for view in views {
            let command = if view.dry_run { format!("{} --dry-run", view.command) } else { view.command.clone() };
            let count: u64 = view.counts.values().sum();
            table.row([
                view.time.clone(),
                view.who.clone(),
                command,
                view.order.clone(),
                view.outcome.clone(),
                if view.counts.is_empty() { String::new() } else { count.to_string() },
                view.filter.clone(),
                view.comment.clone(),
            ]);
        }
        page.table(&table);
        if answer.truncated {
            page.line(&format!("There are more: only the newest {limit} are shown (--limit)."));
        }
    })
}
