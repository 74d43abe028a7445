//! An event as one flat row: the stable columns of `event export`, in NDJSON and CSV (RFC 4180).

use std::collections::BTreeMap;

use postrider_proto::control::v1::Event;
use serde::Serialize;

use crate::client::Failure;
use crate::client::time::rfc3339;

/// The columns with their meaning. Their names and order stay; new ones come at the end.
pub const COLUMNS: [(&str, &str); 31] = [
    ("time", "when it happened (RFC 3339, UTC)"),
    ("event", "accepted, delivered, deferred, moved, bounced, expired, dead, suspended, deleted"),
    ("event_id", "the same event, should it come twice, has the same id"),
    ("message_id", "our id of the message"),
    ("part", "the number of its part, from 0"),
    ("hop", "how often the part had moved between streams"),
    ("recipient", "the recipient's address"),
    ("sender", "the envelope's sender; empty: <>"),
    ("tenant", "whose mail it is"),
    ("class", "transactional or bulk"),
    ("campaign", "the tenant's label"),
    ("site", "the mailbox provider"),
    ("pool", "the pool of IPs it must leave from"),
    ("attempt", "the number of the conversation; 0: there was none"),
    ("source", "the local address it left from, or default"),
    ("exchanger", "the exchanger's name"),
    ("address", "the exchanger's address and port"),
    ("tls", "TLS version and cipher suite; empty: plain text"),
    ("code", "the reply's code; 0: no reply"),
    ("enhanced", "the reply's enhanced status code"),
    ("text", "the reply's text"),
    ("header_message_id", "the header Message-ID, without brackets"),
    ("size_bytes", "bytes of the message"),
    ("accept_time", "when the message was accepted"),
    ("next", "where it goes: tier, site, hold, dead, finished; empty: it stays"),
    ("next_to", "the tier, the site, the order that holds it, or why it is dead"),
    ("next_reason", "why it waits there"),
    ("next_until", "when its next turn is expected"),
    ("metadata_json", "the tenant's own words, a JSON object"),
    ("reply_class", "what a reply that put off or refused is about: rate-limited, blocked, bad-address, ..."),
    ("reply_rule", "which rule read it so; enhanced-code, code: the numbers alone"),
];

/// The row.
#[derive(Debug, Serialize)]
pub struct Row {
    time: String,
    event: String,
    event_id: String,
    message_id: String,
    part: u32,
    hop: u32,
    recipient: String,
    sender: String,
    tenant: String,
    class: String,
    campaign: String,
    site: String,
    pool: String,
    attempt: u32,
    source: String,
    exchanger: String,
    address: String,
    tls: String,
    code: u32,
    enhanced: String,
    text: String,
    header_message_id: String,
    size_bytes: u64,
    accept_time: String,
    next: String,
    next_to: String,
    next_reason: String,
    next_until: String,
    metadata_json: String,
    reply_class: String,
    reply_rule: String,
}

impl From<Event> for Row {
    fn from(event: Event) -> Self {
        let metadata: BTreeMap<&String, &String> = event.metadata.iter().collect();
        // A map of texts is always JSON.
        let metadata_json = serde_json::to_string(&metadata).unwrap_or_default();
        Self {
            time: rfc3339(event.time.as_ref()),
            event: event.event,
            event_id: event.event_id,
            message_id: event.message_id,
            part: event.part,
            hop: event.hop,
            recipient: event.recipient,
            sender: event.sender,
            tenant: event.tenant,
            class: event.class,
            campaign: event.campaign,
            site: event.site,
            pool: event.pool,
            attempt: event.attempt,
            source: event.source,
            exchanger: event.exchanger,
            address: event.address,
            tls: event.tls,
            code: event.code,
            enhanced: event.enhanced,
            text: event.text,
            header_message_id: event.header_message_id,
            size_bytes: event.size_bytes,
            accept_time: rfc3339(event.accept_time.as_ref()),
            next: event.next,
            next_to: event.next_to,
            next_reason: event.next_reason,
            next_until: rfc3339(event.next_until.as_ref()),
            metadata_json,
            reply_class: event.reply_class,
            reply_rule: event.reply_rule,
        }
    }
}

/// The heading line of CSV.
pub fn csv_heading() -> String {
    COLUMNS.map(|(name, _)| name).join(",") + "\r\n"
}

impl Row {
    /// One line of NDJSON.
    pub fn json(&self) -> Result<String, Failure> {
        serde_json::to_string(self).map(|line| line + "\n").map_err(|why| Failure::Other(format!("as JSON: {why}")))
    }

    /// One document of a YAML stream.
    pub fn yaml(&self) -> Result<String, Failure> {
        serde_yaml_ng::to_string(self)
            .map(|text| format!("---\n{text}"))
            .map_err(|why| Failure::Other(format!("as YAML: {why}")))
    }

    /// One record of CSV.
    pub fn csv(&self) -> Result<String, Failure> {
        let no = |why| Failure::Other(format!("as CSV: {why}"));
        let row = serde_json::to_value(self).map_err(no)?;
        let mut fields = Vec::with_capacity(COLUMNS.len());
        for (name, _) in COLUMNS {
            fields.push(match row.get(name) {
                Some(serde_json::Value::String(text)) => field(text),
                Some(value) => field(&value.to_string()),
                None => String::new(),
            });
        }
        Ok(fields.join(",") + "\r\n")
    }
}

/// RFC 4180 section 2: quoted where it holds a comma, a quote or a line end, quotes doubled.
fn field(text: &str) -> String {
    if text.contains([',', '"', '\r', '\n']) { format!("\"{}\"", text.replace('"', "\"\"")) } else { text.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Event {
        Event {
            time: Some(prost_types::Timestamp { seconds: 1_000_000_000, nanos: 5_000_000 }),
            event: "bounced".into(),
            text: "no \"such\" user, sorry".into(),
            code: 550,
            metadata: [("b".to_owned(), "2".to_owned()), ("a".to_owned(), "1".to_owned())].into(),
            ..Default::default()
        }
    }

    #[test]
    fn json_has_the_columns_in_their_order() {
        let json = Row::from(sample()).json().unwrap();
        let places: Vec<usize> =
            COLUMNS.iter().map(|(name, _)| json.find(&format!("\"{name}\":")).expect(name)).collect();
        assert!(places.is_sorted(), "{json}");
        let value: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(value.as_object().unwrap().len(), COLUMNS.len());
        assert!(json.contains(r#""metadata_json":"{\"a\":\"1\",\"b\":\"2\"}""#), "{json}");
    }

    #[test]
    fn csv_has_as_many_fields_as_the_heading_and_quotes_what_needs_it() {
        let line = Row::from(sample()).csv().unwrap();
        assert!(line.starts_with("2001-09-09T01:46:40.005Z,bounced,"), "{line}");
        assert!(line.contains(r#","no ""such"" user, sorry","#), "{line}");
        assert!(line.ends_with(",\"{\"\"a\"\":\"\"1\"\",\"\"b\"\":\"\"2\"\"}\",,\r\n"), "{line}");
        assert_eq!(csv_heading().matches(',').count(), COLUMNS.len() - 1);
    }
}
