//! `postrider audit`.

use clap::Args;
use postrider_proto::control::v1 as api;
use serde::Serialize;

use super::connection::Session;
use super::output::{Output, Page};
use super::table::{Align, Table};
use super::time::{Moment, parse_moment};
use super::{EXIT_CODES, Failure, time};

/// Whether everything that was accepted has ended or waits, by tenant and hour of acceptance, in recipients
///
/// ACCEPTED and ENDED are counted from the journal, WAITING from the contents of the streams: READY, tiers, HOLD and INTAKE.
/// IN TRANSIT is what lies in a stream and no delivery process has taken yet: it counts as accepted once one has, so mail
/// that is lost before that is not noticed here. What moves while the audit runs counts as waiting. DIFFERENCE is what is
/// neither ended nor anywhere; below zero, more was found than accepted. Hours older than the events are compared too, but
/// what is missing in them cannot be named; those older than two weeks (`control.audit_hours_days`) are shown by the day.
#[derive(Debug, Args)]
#[command(after_help = format!(
    "Examples:\n  postrider audit\n  postrider audit --since 6h --tenant acme\n  \
     postrider audit -o json | jq '.missing[].message_id'\n\n{EXIT_CODES}"
))]
pub struct AuditArgs {
    /// From the hour of this time on: RFC 3339, or how long ago (10m, 2h, 1d) [default: all that sums are kept of]
    #[arg(long, value_name = "TIME", value_parser = parse_moment)]
    since: Option<Moment>,
    /// Hours that begin before this time [default: now]
    #[arg(long, value_name = "TIME", value_parser = parse_moment)]
    until: Option<Moment>,
    /// Only this tenant
    #[arg(long, value_name = "TENANT", default_value = "", hide_default_value = true)]
    tenant: String,
}

#[derive(Serialize)]
struct View {
    time: String,
    agrees: bool,
    hours: Vec<HourView>,
    missing_parts: u64,
    missing: Vec<MissingView>,
    notes: Vec<String>,
}

#[derive(Serialize)]
struct HourView {
    hour: String,
    /// How many hours: 24 of a day that is not kept hour by hour any more.
    hours: u32,
    tenant: String,
    accepted: u64,
    ended: u64,
    ended_by_event: std::collections::BTreeMap<String, u64>,
    waiting: u64,
    in_transit: u64,
    difference: i64,
    /// Whether the journal reaches back to it.
    named: bool,
}

#[derive(Serialize)]
struct MissingView {
    message_id: String,
    part: u32,
    tenant: String,
    recipients: u32,
    accept_time: String,
    last_event: String,
    last_time: String,
}

impl From<api::AuditReport> for View {
    fn from(report: api::AuditReport) -> Self {
        let hours = report.hours.into_iter().map(|hour| HourView {
            hour: time::rfc3339(hour.hour.as_ref()),
            hours: hour.hours.max(1),
            tenant: hour.tenant,
            accepted: hour.accepted,
            ended: hour.ended.iter().map(|ended| ended.count).sum(),
            ended_by_event: hour.ended.into_iter().map(|ended| (ended.event, ended.count)).collect(),
            waiting: hour.waiting,
            in_transit: hour.in_transit,
            difference: hour.difference,
            named: hour.named,
        });
        let hours: Vec<HourView> = hours.collect();
        let missing = report.missing.into_iter().map(|it| MissingView {
            message_id: it.message_id,
            part: it.part,
            tenant: it.tenant,
            recipients: it.recipients,
            accept_time: time::rfc3339(it.accept_time.as_ref()),
            last_event: it.last_event,
            last_time: time::rfc3339(it.last_time.as_ref()),
        });
        Self {
            time: time::rfc3339(report.time.as_ref()),
            agrees: hours.iter().all(|hour| hour.difference == 0),
            hours,
            missing_parts: report.missing_parts,
            missing: missing.collect(),
            notes: report.notes,
        }
    }
}

pub(super) async fn run(arguments: AuditArgs, session: Session, mut out: Output) -> Result<(), Failure> {
    let AuditArgs { since, until, tenant } = arguments;
    let request = api::AuditRequest { since: since.map(Moment::wire), until: until.map(Moment::wire), tenant };
    let view = View::from(session.audit().audit(request).await?.into_inner());
    out.show(&view, draw)?;
    if view.agrees {
        return Ok(());
    }
    Err(Failure::Difference(
        "accepted is not ended plus waiting; `postrider message show ID` tells the life of a missing message".into(),
    ))
}

/// The hour; of a day the date.
fn shown(hour: &HourView) -> String {
    match hour.hour.split_once('T') {
        Some((date, _)) if hour.hours > 1 => date.to_owned(),
        _ => hour.hour.replace(":00:00Z", ":00Z").replace(":00:00.000Z", ":00Z"),
    }
}

fn draw(view: &View, page: &mut Page) {
    if view.hours.is_empty() {
        page.line("Nothing was accepted in that time.");
    } else {
        let mut table = Table::new(&[
            ("HOUR", Align::Left),
            ("TENANT", Align::Left),
            ("ACCEPTED", Align::Right),
            ("ENDED", Align::Right),
            ("WAITING", Align::Right),
            ("DIFFERENCE", Align::Right),
            ("IN TRANSIT", Align::Right),
            ("ENDED BY", Align::Elastic),
        ]);
        for hour in &view.hours {
            let by: Vec<String> = hour.ended_by_event.iter().map(|(event, count)| format!("{event} {count}")).collect();
            table.row([
                shown(hour),
                hour.tenant.clone(),
                hour.accepted.to_string(),
                hour.ended.to_string(),
                hour.waiting.to_string(),
                hour.difference.to_string(),
                hour.in_transit.to_string(),
                by.join(", "),
            ]);
        }
        page.table(&table);
    }
    if !view.missing.is_empty() {
        page.line("");
        let mut table = Table::new(&[
            ("MISSING MESSAGE", Align::Left),
            ("PART", Align::Right),
            ("TENANT", Align::Left),
            ("RECIPIENTS", Align::Right),
            ("LAST EVENT", Align::Left),
            ("AT", Align::Left),
        ]);
        for it in &view.missing {
            table.row([
                it.message_id.clone(),
                it.part.to_string(),
                it.tenant.clone(),
                it.recipients.to_string(),
                it.last_event.clone(),
                it.last_time.clone(),
            ]);
        }
        page.table(&table);
        let shown = u64::try_from(view.missing.len()).unwrap_or(u64::MAX);
        if view.missing_parts > shown {
            page.line(&format!("{} more are not shown.", view.missing_parts - shown));
        }
    }
    if view.hours.iter().any(|hour| hour.difference != 0 && !hour.named) {
        page.line("Events do not reach back to the whole of a differing hour: what is missing there cannot be named.");
    }
    for note in &view.notes {
        page.line(note);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_named_under_the_hours() {
        let at = |seconds| Some(prost_types::Timestamp { seconds, nanos: 0 });
        let report = api::AuditReport {
            hours: vec![api::AuditHour {
                hour: at(3600),
                tenant: "acme".into(),
                accepted: 5,
                ended: vec![api::EndedCount { event: "delivered".into(), count: 3 }],
                waiting: 1,
                in_transit: 2,
                difference: 1,
                named: true,
                hours: 1,
            }],
            missing: vec![api::MissingPart {
                message_id: "01930b0e-5c1a-7def-8000-0123456789ab".into(),
                tenant: "acme".into(),
                recipients: 1,
                last_event: "deferred".into(),
                last_time: at(3700),
                ..Default::default()
            }],
            missing_parts: 1,
            ..Default::default()
        };
        let mut page = Page::for_test(Some(100));
        draw(&View::from(report), &mut page);
        let lines: Vec<&str> = page.as_str().lines().collect();
        assert_eq!(lines[0].split_whitespace().next(), Some("HOUR"));
        assert_eq!(
            lines[1].split_whitespace().collect::<Vec<_>>(),
            ["1970-01-01T01:00Z", "acme", "5", "3", "1", "1", "2", "delivered", "3"]
        );
        assert!(lines[4].starts_with("01930b0e-5c1a-7def-8000-0123456789ab"), "{lines:?}");
    }
}
