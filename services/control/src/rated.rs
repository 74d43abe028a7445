//! The queue in rows with what happened within the last minute: also rows of which nothing waits any more. Pure.

use std::collections::BTreeMap;

use postrider_proto::control::v1 as api;

use crate::audit::RowOf;

/// Adds the counts of the last minute to the rows that were asked for.
pub(crate) fn add(
    summary: &mut api::QueueSummary,
    request: &api::GetQueueSummaryRequest,
    minute: &BTreeMap<RowOf, api::MinuteCounts>,
) {
    let wanted = |asked: &str, is: &str| asked.is_empty() || asked == is;
    let mut rows: BTreeMap<(String, String, String), api::QueueRow> = std::mem::take(&mut summary.rows)
        .into_iter()
        .map(|row| ((row.site.clone(), row.tenant.clone(), row.class.clone()), row))
        .collect();
    for ((site, tenant, class), counts) in minute {
        let key = (site.to_string(), tenant.to_string(), class.to_string());
        if wanted(&request.site, &key.0) && wanted(&request.tenant, &key.1) && wanted(&request.class, &key.2) {
            let row = rows.entry(key.clone()).or_insert_with(|| {
                let (site, tenant, class) = key;
                api::QueueRow { site, tenant, class, ..api::QueueRow::default() }
            });
            row.minute = Some(*counts);
        }
    }
    summary.rows = rows.into_values().collect();
}

#[cfg(test)]
mod tests {
    use postrider_model::Class;

    use super::*;

    #[test]
    fn what_has_gone_through_without_waiting_has_a_row_too() {
        let counts = api::MinuteCounts { delivered: 60, ..api::MinuteCounts::default() };
        let of = |site: &str| (site.parse().unwrap(), "acme".parse().unwrap(), Class::Bulk);
        let minute = BTreeMap::from([(of("google"), counts), (of("example.net"), counts)]);
        let waits = api::QueueRow {
            site: "google".into(),
            tenant: "acme".into(),
            class: "bulk".into(),
            ready: 5,
            ..api::QueueRow::default()
        };
        let mut summary = api::QueueSummary { rows: vec![waits], ..api::QueueSummary::default() };
        add(&mut summary, &api::GetQueueSummaryRequest::default(), &minute);
        let told: Vec<_> =
            summary.rows.iter().map(|row| (row.site.as_str(), row.ready, row.minute.map(|m| m.delivered))).collect();
        assert_eq!(told, [("example.net", 0, Some(60)), ("google", 5, Some(60))]);
        let asked = api::GetQueueSummaryRequest { site: "google".into(), ..api::GetQueueSummaryRequest::default() };
        let mut summary = api::QueueSummary::default();
        add(&mut summary, &asked, &minute);
        assert_eq!(summary.rows.len(), 1);
    }
}
