//! Orders about mail in the queue, as the commands of several nouns give them: counted first where somebody can be asked, then given.

use std::io::IsTerminal;

use postrider_proto::control::v1 as api;
use serde::Serialize;

use super::Failure;
use super::connection::Session;
use super::filter::{Care, is_empty};
use super::output::{Output, remark};
use super::time::Moment;

#[derive(Serialize)]
struct OrderView {
    dry_run: bool,
    id: String,
    matching: Option<u64>,
    counts: Vec<CountView>,
    effect: String,
    lagging_members: Vec<String>,
}

#[derive(Serialize)]
struct CountView {
    place: String,
    count: u64,
}

impl OrderView {
    fn new(answer: api::OrderResponse, dry_run: bool) -> Self {
        let counts = answer.counts.into_iter().map(|at| CountView { place: at.place, count: at.count });
        let counts: Vec<CountView> = counts.collect();
        Self {
            dry_run,
            id: answer.id,
            matching: dry_run.then(|| counts.iter().map(|at| at.count).sum()),
            counts,
            effect: answer.effect,
            lagging_members: answer.lagging_members,
        }
    }
}

/// What an order does, in words: `delete`, and `deleted`.
#[derive(Clone, Copy)]
pub(super) struct Words(pub(super) &'static str, pub(super) &'static str);

/// Gives an order. Asks before, with a count, unless it is only a dry run, or nobody wants to be asked.
pub(super) async fn give(
    session: &Session,
    out: &mut Output,
    mut request: api::OrderRequest,
    care: Care,
    words: Words,
) -> Result<(), Failure> {
    care.check(request.filter.as_ref().is_some_and(|filter| !is_empty(filter)))?;
    request.all = care.all;
    request.dry_run = care.dry_run;
    let mut client = session.orders();
    if !care.dry_run && !care.yes && std::io::stdin().is_terminal() {
        let counted = client.order(api::OrderRequest { dry_run: true, ..request.clone() }).await?.into_inner();
        let count: u64 = counted.counts.iter().map(|at| at.count).sum();
        care.confirm(&format!("{} {}?", capital(words.0), parts(count)))?;
    } else if !care.dry_run {
        care.confirm(&format!("{} mail?", capital(words.0)))?;
    }
    let answer = client.order(request).await?.into_inner();
    show(answer, care.dry_run, words, out)
}

fn parts(count: u64) -> String {
    if count == 1 { "1 part".to_owned() } else { format!("{count} parts") }
}

fn capital(word: &str) -> String {
    let mut letters = word.chars();
    letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default()
}

pub(super) fn show(answer: api::OrderResponse, dry_run: bool, words: Words, out: &mut Output) -> Result<(), Failure> {
    let view = OrderView::new(answer, dry_run);
    out.show(&view, |view, page| {
        if let Some(matching) = view.matching {
            let at: Vec<String> =
                view.counts.iter().filter(|at| at.count > 0).map(|at| format!("{} {}", at.place, at.count)).collect();
            let at = if at.is_empty() { String::new() } else { format!(" ({})", at.join(", ")) };
            page.line(&format!("{} would be {}{at}.", parts(matching), words.1));
        } else {
            page.line(&format!("Order {}: {}.", view.id, view.effect));
        }
    })?;
    if !view.lagging_members.is_empty() {
        remark(&format!(
            "postrider: ordered, but not in force yet at: {} (they follow as soon as they reach the queue)",
            view.lagging_members.join(", ")
        ));
    }
    Ok(())
}

/// The end of a suspension: a moment, or in how long.
pub(super) fn ending(until: Option<Moment>) -> Option<prost_types::Timestamp> {
    until.map(|until| match until {
        Moment::At(_) => until.wire(),
        Moment::Ago(span) => Moment::At(postrider_runtime::clock::now().after(span)).wire(),
    })
}
