//! A message's life as people read it: who, where it stands, and what happened, in time order.

use postrider_proto::control::v1 as api;

use crate::client::output::Page;
use crate::client::time::{moment, rfc3339, short, took};

/// Recipients of a part that are shown one by one; a blast to a thousand is counted behind them.
const SHOWN: usize = 20;

/// Draws one message.
pub fn draw(life: &api::MessageLife, page: &mut Page) {
    page.fields(&[
        ("message", life.message_id.clone()),
        ("Message-ID", life.header_message_id.clone()),
        ("tenant", life.tenant.clone()),
        ("class", life.class.clone()),
        ("campaign", life.campaign.clone()),
        ("pool", life.pool.clone()),
        ("sender", if life.tenant.is_empty() { String::new() } else { format!("<{}>", life.sender) }),
        ("size", if life.size_bytes == 0 { String::new() } else { format!("{} bytes", life.size_bytes) }),
        ("accepted", rfc3339(life.accept_time.as_ref())),
    ]);
    let mut metadata: Vec<_> = life.metadata.iter().collect();
    metadata.sort();
    for (key, value) in metadata {
        page.line(&format!("metadata  {key} = {value}"));
    }
    for part in &life.parts {
        page.line("");
        draw_part(part, page);
    }
    if !life.happenings.is_empty() {
        page.line("");
        page.line("What happened:");
        for happening in &life.happenings {
            draw_happening(happening, life, page);
        }
    }
    for note in &life.notes {
        page.line("");
        page.line(&format!("Note: {note}"));
    }
}

fn draw_part(part: &api::PartLife, page: &mut Page) {
    page.line(&format!("Part {} at {}:", part.part, part.site));
    for recipient in part.recipients.iter().take(SHOWN) {
        page.line(&format!("  {}: {}", recipient.recipient, with_reply(&recipient.event, recipient.reply.as_ref())));
    }
    if let Some(more) = part.recipients.len().checked_sub(SHOWN).filter(|&more| more > 0) {
        page.line(&format!("  and {more} more (all with -o json)"));
    }
    let Some(waiting) = &part.waiting else { return };
    let place = match (waiting.tier.as_str(), waiting.member.as_str()) {
        ("", "") => String::new(),
        ("", member) => format!(" (says {member})"),
        (tier, _) => format!(" (tier {tier})"),
    };
    page.line(&format!("  waits: {}{place}", waiting.reason));
    if waiting.reason == "in-flight" {
        // The time that is known here is that of a permit, which is renewed as long as the conversation lasts.
        page.line("  until: the exchanger answers, or its time is up");
    } else if waiting.until.is_some() {
        page.line(&format!("  until: {}", short(waiting.until.as_ref())));
    }
    page.line(&format!("  lifted by: {}", waiting.lifted_by));
    if !waiting.ordered.is_empty() {
        page.line(&format!("  ordered: {}", waiting.ordered));
    }
}

fn draw_happening(happening: &api::Happening, life: &api::MessageLife, page: &mut Page) {
    let at = short(happening.time.as_ref());
    let part = if life.parts.len() > 1 { format!(" part {}", happening.part) } else { String::new() };
    let what = match &happening.attempt {
        Some(attempt) => {
            // An exchanger that is known by its address alone is not told twice.
            let exchanger = match (attempt.exchanger.as_str(), attempt.address.as_str()) {
                ("", address) => address.to_owned(),
                (name, address) if name.starts_with('[') && !address.is_empty() => address.to_owned(),
                (name, "") => name.to_owned(),
                (name, address) => format!("{name} [{address}]"),
            };
            let tls = if attempt.tls.is_empty() { "no TLS" } else { &attempt.tls };
            let took = moment(happening.time.as_ref())
                .zip(moment(attempt.begin_time.as_ref()))
                .map(|(end, begin)| format!(", took {}", took(end.since(begin))))
                .unwrap_or_default();
            format!("attempt {} from {} to {exchanger}, {tls}{took}", attempt.number, attempt.source)
        }
        None if happening.next.is_empty() => "accepted".to_owned(),
        None => "no conversation".to_owned(),
    };
    page.line(&format!("  {at}{part}  {what}"));
    if happening.attempt.is_some() || !happening.next.is_empty() {
        for recipient in happening.recipients.iter().take(SHOWN) {
            let said = with_reply(&recipient.event, recipient.reply.as_ref());
            page.line(&format!("      {}: {said}", recipient.recipient));
        }
    }
    if !happening.next.is_empty() && happening.next != "done" {
        let until = match short(happening.next_until.as_ref()) {
            until if until.is_empty() => until,
            until => format!(" until {until}"),
        };
        page.line(&format!("      then to {}{until}", happening.next));
    }
}

fn with_reply(event: &str, said: Option<&api::SmtpReply>) -> String {
    match reply(said) {
        text if text.is_empty() => event.to_owned(),
        text => format!("{event}, {text}"),
    }
}

/// A reply on one line: `451 4.7.1 try again later`; empty if there is none.
pub fn reply(reply: Option<&api::SmtpReply>) -> String {
    let Some(reply) = reply else { return String::new() };
    let code = if reply.code == 0 { String::new() } else { reply.code.to_string() };
    let words = [code.as_str(), reply.enhanced.as_str(), reply.text.as_str()];
    words.into_iter().filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Option<prost_types::Timestamp> {
        Some(prost_types::Timestamp { seconds, nanos: 0 })
    }

    fn deferred() -> api::MessageLife {
        let reply = api::SmtpReply { code: 451, enhanced: "4.7.1".into(), text: "try again later".into() };
        let recipient = api::RecipientLife {
            recipient: "ann@example.net".into(),
            event: "deferred".into(),
            r#final: false,
            reply: Some(reply),
        };
        api::MessageLife {
            message_id: "01930b0e-5c1a-7def-8000-0123456789ab".into(),
            tenant: "acme".into(),
            class: "bulk".into(),
            sender: "news@acme.example".into(),
            size_bytes: 1234,
            accept_time: at(1_000_000_000),
            parts: vec![api::PartLife {
                part: 0,
                site: "example.net".into(),
                recipients: vec![recipient.clone()],
                waiting: Some(api::Waiting {
                    reason: "retry".into(),
                    until: at(1_000_000_300),
                    lifted_by: "the retry schedule, or the receiving site".into(),
                    tier: "5m".into(),
                    member: String::new(),
                    ordered: "to be deleted at its next turn".into(),
                }),
            }],
            happenings: vec![api::Happening {
                time: at(1_000_000_002),
                site: "example.net".into(),
                attempt: Some(api::AttemptLife {
                    number: 1,
                    source: "default".into(),
                    exchanger: "mx.example.net".into(),
                    address: "192.0.2.1:25".into(),
                    tls: "TLSv1.3".into(),
                    begin_time: at(1_000_000_001),
                }),
                recipients: vec![recipient],
                next: "tier 5m (retry)".into(),
                next_until: at(1_000_000_300),
                ..Default::default()
            }],
            ..Default::default()
        }
    }

    #[test]
    fn a_deferred_message_says_why_until_when_and_who_can_lift_it() {
        let mut page = Page::for_test(Some(100));
        draw(&deferred(), &mut page);
        assert_eq!(
            page.as_str(),
            "message   01930b0e-5c1a-7def-8000-0123456789ab
tenant    acme
class     bulk
sender    <news@acme.example>
size      1234 bytes
accepted  2001-09-09T01:46:40.000Z

Part 0 at example.net:
  ann@example.net: deferred, 451 4.7.1 try again later
  waits: retry (tier 5m)
  until: 2001-09-09T01:51:40Z
  lifted by: the retry schedule, or the receiving site
  ordered: to be deleted at its next turn

What happened:
  2001-09-09T01:46:42Z  attempt 1 from default to mx.example.net [192.0.2.1:25], TLSv1.3, took 1.0s
      ann@example.net: deferred, 451 4.7.1 try again later
      then to tier 5m (retry) until 2001-09-09T01:51:40Z
"
        );
    }

    #[test]
    fn escape_sequences_of_strangers_do_not_reach_the_terminal() {
        let mut page = Page::for_test(None);
        let life = api::MessageLife { header_message_id: "x\u{1b}[31m@evil".into(), ..Default::default() };
        draw(&life, &mut page);
        assert!(!page.as_str().contains('\u{1b}'));
    }
}
