//! An event on one line, for people who watch.

use postrider_proto::control::v1::Event;

use crate::client::output::printable;
use crate::client::time::short;

/// The heading above the lines.
pub fn heading() -> String {
    format!("{:<20}  {:<9}  {:<36}  {:<28}  {}\n", "TIME", "EVENT", "MESSAGE", "RECIPIENT", "WHAT")
}

/// The line; a long reply at its end is cut to two lines of a terminal that is `width` wide.
pub fn line(event: &Event, width: Option<usize>) -> String {
    let recipient = if event.recipient.is_empty() { "-" } else { &event.recipient };
    let line = format!(
        "{:<20}  {:<9}  {:<36}  {:<28}  {}",
        short(event.time.as_ref()),
        event.event,
        event.message_id,
        recipient,
        what(event)
    );
    let line = printable(&line);
    let mut line: String = match width {
        // Only the words at the end give way: time, event, message and recipient are always whole.
        Some(width) => line.chars().take(2 * width).collect(),
        None => line,
    };
    line.truncate(line.trim_end().len());
    line.push('\n');
    line
}

fn what(event: &Event) -> String {
    let code = if event.code == 0 { String::new() } else { event.code.to_string() };
    let next = match (event.next.as_str(), event.next_to.as_str()) {
        ("tier", tier) => format!("-> {tier} ({})", event.next_reason),
        ("site", site) => format!("-> site {site}"),
        ("dead", reason) => format!("-> dead letters ({reason})"),
        _ => String::new(),
    };
    let words = [event.site.as_str(), &next, &code, &event.enhanced, &event.text];
    words.into_iter().filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_one_line() {
        let event = Event {
            time: Some(prost_types::Timestamp { seconds: 1_000_000_000, nanos: 5_000_000 }),
            event: "deferred".into(),
            message_id: "01930b0e-5c1a-7def-8000-0123456789ab".into(),
            recipient: "ann@example.net".into(),
            site: "example.net".into(),
            code: 451,
            enhanced: "4.7.1".into(),
            text: "later\nplease".into(),
            next: "tier".into(),
            next_to: "5m".into(),
            next_reason: "retry".into(),
            ..Default::default()
        };
        assert_eq!(
            line(&event, None),
            "2001-09-09T01:46:40Z  deferred   01930b0e-5c1a-7def-8000-0123456789ab  ann@example.net               \
             example.net -> 5m (retry) 451 4.7.1 later please\n"
        );
    }
}
