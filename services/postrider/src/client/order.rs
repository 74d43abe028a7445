//! Orders about mail in the queue, as the commands of several nouns give them: counted first where somebody can be asked, then given.

use postrider_proto::control::v1 as api;
use serde::Serialize;

use super::Failure;
use super::connection::Session;
use super::filter::{Care, is_empty};
use super::output::{Output, Page, remark};
use super::time::Moment;

#[derive(Serialize)]
struct OrderView {
    dry_run: bool,
    id: String,
    /// Nothing: not counted, because it would have taken long.
    matching: Option<u64>,
    counts: Vec<CountView>,
    /// Matching, and on hold, where the order does nothing about that.
    on_hold: u64,
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
            matching: answer.counted.then(|| counts.iter().map(|at| at.count).sum()),
            counts,
            on_hold: answer.held,
            effect: answer.effect,
            lagging_members: answer.lagging_members,
        }
    }
}

/// Said where the answer was no.
pub(super) const UNCHANGED: &str = "Nothing was changed.";

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
    if !care.dry_run && !care.yes {
        let counted = client.order(api::OrderRequest { dry_run: true, ..request.clone() }).await?.into_inner();
        let count: u64 = counted.counts.iter().map(|at| at.count).sum();
        if !care.confirm(&format!("{} {}?", capital(words.0), many(count, "part")))? {
            return out.done(UNCHANGED);
        }
    }
    let answer = client.order(request).await?.into_inner();
    show(answer, if care.dry_run { Meant::Dry(words) } else { Meant::Real }, out)
}

/// `1 part`, `2 parts`.
pub(super) fn many(count: u64, what: &str) -> String {
    if count == 1 { format!("1 {what}") } else { format!("{count} {what}s") }
}

/// How an order, or the removal of one, was meant.
pub(super) enum Meant {
    /// It was given.
    Real,
    /// It was asked what it would do.
    Dry(Words),
    /// It was asked what would follow from removing the order of this name.
    DryRemoval(String),
}

fn capital(word: &str) -> String {
    let mut letters = word.chars();
    letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default()
}

pub(super) fn show(answer: api::OrderResponse, meant: Meant, out: &mut Output) -> Result<(), Failure> {
    let view = OrderView::new(answer, !matches!(meant, Meant::Real));
    out.show(&view, |view, page| draw(view, &meant, page))?;
    if !view.lagging_members.is_empty() {
        remark(&format!(
            "postrider: ordered, but not in force yet at: {} (they follow as soon as they reach the queue)",
            view.lagging_members.join(", ")
        ));
    }
    Ok(())
}

fn draw(view: &OrderView, meant: &Meant, page: &mut Page) {
    let at: Vec<String> =
        view.counts.iter().filter(|at| at.count > 0).map(|at| format!("{} {}", at.place, at.count)).collect();
    let at = if at.is_empty() { String::new() } else { format!(" ({})", at.join(", ")) };
    let matching = match view.matching {
        Some(1) => format!("1 part matches now{at}"),
        Some(count) => format!("{count} parts match now{at}"),
        None => "not counted, because that would take long".to_owned(),
    };
    page.line(&match meant {
        Meant::Dry(words) => format!("{} would be {}{at}.", many(view.matching.unwrap_or_default(), "part"), words.1),
        Meant::DryRemoval(id) => format!("If order {id} were removed: {matching}; {}.", view.effect),
        Meant::Real => format!("Order {}: {matching}; {}.", view.id, view.effect),
    });
    if view.on_hold > 0 {
        let stays = if view.on_hold == 1 { "stays" } else { "stay" };
        page.line(&format!(
            "{} on hold {stays} there: `postrider message release ID` or `postrider hold remove NAME` lifts that.",
            many(view.on_hold, "part")
        ));
    }
}

/// The end of a hold: a moment, or in how long.
pub(super) fn ending(until: Option<Moment>) -> Option<prost_types::Timestamp> {
    until.map(|until| match until {
        Moment::At(_) => until.wire(),
        Moment::Ago(span) => Moment::At(postrider_runtime::clock::now().after(span)).wire(),
    })
}
