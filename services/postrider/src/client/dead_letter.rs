//! `postrider dead-letter`.

use clap::Subcommand;
use postrider_proto::control::v1 as api;
use serde::Serialize;

use super::connection::{Session, pages};
use super::filter::{Care, FilterArgs, is_empty};
use super::order::{UNCHANGED, many};
use super::output::Output;
use super::table::{Align, Table};
use super::{Failure, examples, time};

/// What can be done about dead letters.
#[derive(Debug, Subcommand)]
pub enum DeadLetterVerb {
    /// Dead letters, the oldest first
    ///
    /// They died of `body-lost` (the body is not in the queue any more) or `undecodable` (the record cannot be read).
    #[command(after_help = examples(&[
        "dead-letter list",
        "dead-letter list --reason body-lost --tenant acme",
        "dead-letter list -o json | jq '.[] | select(.decodable) | .number'",
    ]))]
    List {
        #[command(flatten)]
        filter: FilterArgs,
    },
    /// One of them, with what is known of it and the beginning of its bytes
    #[command(after_help = examples(&["dead-letter show 17"]))]
    Show {
        /// Its number
        number: u64,
    },
    /// Put back to READY what can be decoded: it is tried again as it was
    #[command(after_help = examples(&[
        "dead-letter requeue 17 18",
        "dead-letter requeue --reason body-lost --dry-run",
        "dead-letter requeue --all --yes",
    ]))]
    Requeue {
        /// These
        #[arg(value_name = "NUMBER")]
        numbers: Vec<u64>,
        #[command(flatten)]
        filter: FilterArgs,
        /// Why, for the audit trail
        #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
        comment: String,
        #[command(flatten)]
        care: Care,
    },
    /// Delete them for good
    #[command(after_help = examples(&[
        "dead-letter delete 17",
        "dead-letter delete --reason undecodable --older-than 7d --dry-run",
    ]))]
    Delete {
        /// These
        #[arg(value_name = "NUMBER")]
        numbers: Vec<u64>,
        #[command(flatten)]
        filter: FilterArgs,
        /// Why, for the audit trail
        #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
        comment: String,
        #[command(flatten)]
        care: Care,
    },
}

/// From this share of their room on, in percent, it is said.
const NEARLY_FULL: u64 = 80;

/// What is counted.
const LETTER: &str = "dead letter";

#[derive(Serialize)]
struct LetterView {
    number: u64,
    reason: String,
    why: String,
    buried_time: String,
    size_bytes: u64,
    decodable: bool,
    message_id: String,
    part: u32,
    hop: u32,
    tenant: String,
    class: String,
    campaign: String,
    site: String,
    sender: String,
    recipients: Vec<String>,
    accept_time: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    head_hex: String,
}

impl From<api::DeadLetter> for LetterView {
    fn from(letter: api::DeadLetter) -> Self {
        Self {
            number: letter.number,
            reason: letter.reason,
            why: letter.why,
            buried_time: time::rfc3339(letter.buried_time.as_ref()),
            size_bytes: letter.size_bytes,
            decodable: letter.decodable,
            message_id: letter.message_id,
            part: letter.part,
            hop: letter.hop,
            tenant: letter.tenant,
            class: letter.class,
            campaign: letter.campaign,
            site: letter.site,
            sender: letter.sender,
            recipients: letter.recipients,
            accept_time: time::rfc3339(letter.accept_time.as_ref()),
            head_hex: letter.head.iter().map(|byte| format!("{byte:02x}")).collect(),
        }
    }
}

#[derive(Serialize)]
struct ChangedView {
    dry_run: bool,
    changed: u64,
    undecodable: u64,
    absent: Vec<u64>,
}

pub(super) async fn run(verb: DeadLetterVerb, session: Session, mut out: Output) -> Result<(), Failure> {
    let mut client = session.dead_letters();
    match verb {
        DeadLetterVerb::List { filter } => {
            let filter = Some(filter.wire());
            let mut store = None;
            let letters = pages(async |page_token| {
                let request = api::ListDeadLettersRequest { filter: filter.clone(), page_size: 0, page_token };
                let page = client.list_dead_letters(request).await?.into_inner();
                store = page.store.or(store);
                Ok((page.letters, page.next_page_token))
            });
            let views: Vec<LetterView> = letters.await?.into_iter().map(LetterView::from).collect();
            out.show(&views, |views, page| {
                let mut table = Table::new(&[
                    ("NUMBER", Align::Right),
                    ("BURIED", Align::Left),
                    ("REASON", Align::Left),
                    ("TENANT", Align::Left),
                    ("SITE", Align::Left),
                    ("MESSAGE", Align::Left),
                    ("WHY", Align::Elastic),
                ]);
                for view in views {
                    table.row([
                        view.number.to_string(),
                        view.buried_time.clone(),
                        view.reason.clone(),
                        view.tenant.clone(),
                        view.site.clone(),
                        view.message_id.clone(),
                        view.why.clone(),
                    ]);
                }
                if views.is_empty() {
                    page.line("No dead letters.");
                } else {
                    page.table(&table);
                }
                for line in store.iter().flat_map(remarks) {
                    page.line(&line);
                }
            })
        }
        DeadLetterVerb::Show { number } => {
            let letter = client.get_dead_letter(api::GetDeadLetterRequest { number }).await?.into_inner();
            out.show(&LetterView::from(letter), |view, page| {
                let mut fields = vec![
                    ("number", view.number.to_string()),
                    ("reason", view.reason.clone()),
                    ("why", view.why.clone()),
                    ("buried", view.buried_time.clone()),
                    ("size", format!("{} bytes", view.size_bytes)),
                ];
                if view.decodable {
                    fields.extend([
                        ("message", format!("{} part {} hop {}", view.message_id, view.part, view.hop)),
                        ("accepted", view.accept_time.clone()),
                        ("tenant", format!("{} ({})", view.tenant, view.class)),
                        ("campaign", view.campaign.clone()),
                        ("site", view.site.clone()),
                        ("sender", if view.sender.is_empty() { "<>".to_owned() } else { view.sender.clone() }),
                        ("recipients", view.recipients.join(", ")),
                    ]);
                } else {
                    fields.push(("decodable", "no: it cannot be put back".to_owned()));
                }
                fields.push(("begins with", view.head_hex.clone()));
                page.fields(&fields);
            })
        }
        DeadLetterVerb::Requeue { numbers, filter, comment, care } => {
            let request = request(numbers, &filter, comment, care)?;
            if !care.dry_run && !care.yes {
                let would = client.requeue_dead_letters(dry(&request)).await?.into_inner();
                if !care.confirm(&format!("Put {} back?", many(would.changed, LETTER)))? {
                    return out.done(UNCHANGED);
                }
            }
            let changed = client.requeue_dead_letters(request).await?.into_inner();
            show(changed, care.dry_run, ["would be put back", "put back"], &mut out)
        }
        DeadLetterVerb::Delete { numbers, filter, comment, care } => {
            let request = request(numbers, &filter, comment, care)?;
            if !care.dry_run && !care.yes {
                let would = client.delete_dead_letters(dry(&request)).await?.into_inner();
                if !care.confirm(&format!("Delete {} for good?", many(would.changed, LETTER)))? {
                    return out.done(UNCHANGED);
                }
            }
            let changed = client.delete_dead_letters(request).await?.into_inner();
            show(changed, care.dry_run, ["would be deleted", "deleted"], &mut out)
        }
    }
}

/// What an operator should know of all dead letters: that there is hardly room for more, and that there was none.
fn remarks(store: &api::DeadLetterStore) -> Vec<String> {
    let mut remarks = Vec::new();
    let share = store.bytes.saturating_mul(100).checked_div(store.bytes_limit).unwrap_or(0);
    if share >= NEARLY_FULL {
        remarks.push(format!(
            "The dead letters have {share} % of their room, {} of {} bytes: when it is full the oldest are discarded. Put back or delete \
             some, or raise nats.storage_bytes.",
            store.bytes, store.bytes_limit
        ));
    }
    if store.discarded > 0 {
        remarks.push(format!("Discarded for want of room so far: {}.", many(store.discarded, LETTER)));
    }
    remarks
}

fn request(
    numbers: Vec<u64>,
    filter: &FilterArgs,
    comment: String,
    care: Care,
) -> Result<api::ChangeDeadLettersRequest, Failure> {
    let filter = filter.wire();
    care.check(!numbers.is_empty() || !is_empty(&filter))?;
    Ok(api::ChangeDeadLettersRequest { filter: Some(filter), numbers, dry_run: care.dry_run, all: care.all, comment })
}

fn dry(request: &api::ChangeDeadLettersRequest) -> api::ChangeDeadLettersRequest {
    api::ChangeDeadLettersRequest { dry_run: true, ..request.clone() }
}

fn show(
    changed: api::ChangeDeadLettersResponse,
    dry_run: bool,
    did: [&str; 2],
    out: &mut Output,
) -> Result<(), Failure> {
    let api::ChangeDeadLettersResponse { changed, undecodable, absent } = changed;
    let view = ChangedView { dry_run, changed, undecodable, absent };
    out.show(&view, |view, page| {
        let [would, did] = did;
        page.line(&format!("{} {}.", many(view.changed, LETTER), if view.dry_run { would } else { did }));
        match view.undecodable {
            0 => {}
            1 => page.line("1 cannot be decoded and stays."),
            more => page.line(&format!("{more} cannot be decoded and stay.")),
        }
    })?;
    if !view.absent.is_empty() {
        let numbers: Vec<String> = view.absent.iter().map(u64::to_string).collect();
        let there_is = if view.absent.len() == 1 { "there is no dead letter" } else { "there are no dead letters" };
        return Err(Failure::NotFound(format!("{there_is} {}", numbers.join(", "))));
    }
    if view.changed == 0 && view.undecodable > 0 && !view.dry_run {
        return Err(Failure::Other("nothing was put back: see `dead-letter show`, and `dead-letter delete`".into()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_nearly_full_or_was_too_full_is_said() {
        let said = |bytes, discarded| {
            let store = api::DeadLetterStore { letters: 7, bytes, bytes_limit: 1_000, discarded };
            remarks(&store).join(" ")
        };
        assert_eq!(said(799, 0), "");
        assert!(said(800, 0).starts_with("The dead letters have 80 % of their room, 800 of 1000 bytes"));
        assert_eq!(said(10, 1), "Discarded for want of room so far: 1 dead letter.");
    }
}
