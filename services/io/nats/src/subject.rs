//! Names of streams and consumers, and the subjects of what lies in them.

use postrider_model::{Class, Envelope, ShardId, ShardLayout, SiteName, TenantId, Tier, escape_token, unescape_token};

/// Every stream of the spool.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum StreamName {
    ReadyBulk(u8),
    ReadyTransactional,
    Retry(Tier),
    Body(u8),
    Intake,
    Hold,
    Dead,
    Events(u8),
    Operations,
}

impl std::fmt::Display for StreamName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::ReadyBulk(n) => write!(f, "READY_B{n}"),
            Self::ReadyTransactional => f.write_str("READY_T"),
            Self::Retry(tier) => write!(f, "RETRY_{tier}"),
            Self::Body(n) => write!(f, "BODY_{n}"),
            Self::Intake => f.write_str("INTAKE"),
            Self::Hold => f.write_str("HOLD"),
            Self::Dead => f.write_str("DEAD"),
            Self::Operations => f.write_str("OPERATIONS"),
            Self::Events(n) => write!(f, "EVENTS_{n}"),
        }
    }
}

/// The stream that holds a shard's READY mail: bulk shards are dealt out by number.
pub(crate) fn ready_stream(layout: &ShardLayout, shard: ShardId) -> StreamName {
    match shard.class {
        Class::Transactional => StreamName::ReadyTransactional,
        Class::Bulk => StreamName::ReadyBulk(shard.index % layout.bulk_streams.max(1)),
    }
}

/// The stream that holds a shard's events.
pub(crate) fn events_stream(layout: &ShardLayout, shard: ShardId) -> StreamName {
    StreamName::Events(shard.index % layout.side_streams.max(1))
}

pub(crate) fn shard_of(layout: &ShardLayout, envelope: &Envelope) -> ShardId {
    layout.shard_of(envelope.class, &envelope.state.site, envelope.state.slice)
}

fn site_and_tenant(envelope: &Envelope) -> String {
    format!("{}.{}", escape_token(envelope.state.site.as_str()), escape_token(envelope.tenant.as_str()))
}

pub(crate) fn ready(layout: &ShardLayout, envelope: &Envelope) -> String {
    format!("ready.{}.{}", shard_of(layout, envelope), site_and_tenant(envelope))
}

pub(crate) fn retry(layout: &ShardLayout, tier: Tier, envelope: &Envelope) -> String {
    let class = envelope.class.letter();
    format!("retry.{tier}.{class}.{}.{}", shard_of(layout, envelope), site_and_tenant(envelope))
}

/// A shard's mail of all tenants for a site, in a tier.
pub(crate) fn retry_of_site(tier: Tier, shard: ShardId, site: &SiteName) -> String {
    format!("retry.{tier}.{}.{shard}.{}.*", shard.class.letter(), escape_token(site.as_str()))
}

pub(crate) fn all_ready(shard: ShardId) -> String {
    format!("ready.{shard}.>")
}

pub(crate) fn all_retry(tier: Tier, class: Class) -> String {
    format!("retry.{tier}.{}.>", class.letter())
}

pub(crate) fn body(stream: u8) -> String {
    format!("body.{stream}")
}

pub(crate) fn intake(class: Class) -> String {
    format!("intake.{}", class.letter())
}

/// All of INTAKE.
pub(crate) const ALL_INTAKE: &str = "intake.*";

/// Everything suspended.
pub(crate) const ALL_HELD: &str = "hold.>";

/// What operators did.
pub(crate) const OPERATION: &str = "operation";

pub(crate) fn hold(envelope: &Envelope) -> String {
    let (tenant, site) = (escape_token(envelope.tenant.as_str()), escape_token(envelope.state.site.as_str()));
    format!("hold.{}.{tenant}.{site}", envelope.class.letter())
}

/// Reads a subject of HOLD.
pub(crate) fn parse_hold(subject: &str) -> Option<(Class, SiteName, TenantId)> {
    let mut tokens = subject.strip_prefix("hold.")?.split('.');
    let letter = tokens.next()?;
    let class = Class::ALL.into_iter().find(|class| letter == class.letter().to_string())?;
    let tenant = unescape_token(tokens.next()?).parse().ok()?;
    let site = unescape_token(tokens.next()?).parse().ok()?;
    Some((class, site, tenant))
}

/// One token from a reason that may come from anywhere: lower-case letters, digits and dashes, bounded.
pub(crate) fn dead(reason: &str) -> String {
    let keep = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
    let token: String = reason.chars().take(40).map(keep).collect();
    if token.is_empty() { "dead.unknown".to_owned() } else { format!("dead.{token}") }
}

pub(crate) fn event(shard: ShardId) -> String {
    format!("event.{shard}")
}

pub(crate) fn ready_consumer(shard: ShardId) -> String {
    format!("ready-{shard}")
}

pub(crate) fn retry_consumer(tier: Tier, class: Class) -> String {
    format!("promote-{tier}-{}", class.letter())
}

pub(crate) fn split_consumer(class: Class) -> String {
    format!("split-{}", class.letter())
}

/// Reads `<site>.<tenant>` at the end of a subject of READY or a tier.
pub(crate) fn parse_site_and_tenant(subject: &str) -> Option<(SiteName, TenantId)> {
    let mut tokens = subject.rsplit('.');
    let tenant = unescape_token(tokens.next()?).parse().ok()?;
    let site = unescape_token(tokens.next()?).parse().ok()?;
    Some((site, tenant))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bulk_shards_are_dealt_out_over_the_streams() {
        let layout = ShardLayout::CLUSTER;
        let stream = |text: &str| ready_stream(&layout, text.parse().unwrap()).to_string();
        assert_eq!(
            [stream("b00"), stream("b05"), stream("b63"), stream("t15")].join(" "),
            "READY_B0 READY_B1 READY_B3 READY_T"
        );
    }

    #[test]
    fn a_reason_is_one_safe_token() {
        assert_eq!(dead("Body lost: 7"), "dead.body-lost--7");
        assert_eq!(dead("a.b.>"), "dead.a-b--");
        assert_eq!(dead(""), "dead.unknown");
    }

    #[test]
    fn a_subject_of_hold_is_read_back() {
        let (class, site, tenant) = parse_hold("hold.b.acme.example_net").unwrap();
        assert_eq!((class, site.as_str(), tenant.as_str()), (Class::Bulk, "example.net", "acme"));
        assert_eq!(parse_hold("hold.x.acme.example_net"), None);
    }

    #[test]
    fn site_and_tenant_come_back_from_a_subject() {
        let (site, tenant) = parse_site_and_tenant("retry.1m.b.b07.example_net.acme").unwrap();
        assert_eq!((site.as_str(), tenant.as_str()), ("example.net", "acme"));
    }
}
