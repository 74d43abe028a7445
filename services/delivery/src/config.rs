//! The settings of a delivery process.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use anyhow::Context;
use postrider_dispatch::dispatcher::DispatcherConfig;
use postrider_dispatch::limits::{PathLimits, Shaping};
use postrider_dispatch::sites;
use postrider_model::{SiteName, TierDelays};
use postrider_net::{DialerConfig, DnsConfig, SiteResolverConfig};
use serde::Deserialize;

/// `[delivery]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DeliveryConfig {
    /// The name for EHLO. The host name if empty.
    pub ehlo_name: String,
    /// The address mail leaves from; the system chooses if there is none.
    pub source_address: Option<IpAddr>,
    /// Megabytes of message bodies held in memory.
    pub body_megabytes: u64,
    /// Conversations at the same time.
    pub conversations: usize,
    /// Envelopes in memory, divided over the shards this process owns; each takes half a kilobyte beside its body.
    pub envelopes: usize,
    /// Envelopes of one shard in memory; at most 19,000.
    pub shard_capacity: usize,
    /// Seconds that a connection may stay idle before it is closed.
    pub idle_secs: u64,
    /// Seconds that one TCP connect may take.
    pub connect_timeout_secs: u64,
    /// No reply of an exchanger is waited for longer than this many seconds, however long RFC 5321 would allow.
    pub longest_reply_secs: u64,
    /// Addresses tried for one conversation at most.
    pub most_addresses: usize,
    /// Seconds that an exchange is left alone after its first failure in a row; doubles with each, up to half an hour.
    pub first_closure_secs: u64,
    /// What waits longer than this many seconds leaves memory for a tier.
    pub index_wait_secs: u64,
    /// From so many envelopes of one site, or of one tenant there, that move to tiers within some seconds on, ingress and
    /// promoters are told to send such mail straight to a tier.
    pub jam_from: usize,
    /// Promote what is due in the tiers, and split what came for several sites. One process of a cluster is enough; any
    /// number does no harm.
    pub promote: bool,
    /// Seconds that a shutdown waits for conversations to end.
    pub drain_secs: u64,
    /// Limits of each path.
    pub shaping: ShapingConfig,
    /// Name servers.
    pub dns: DnsConfig,
    /// What recipient domains resolve to.
    pub sites: SiteResolverConfig,
    /// What may be connected to.
    pub dialer: DialerConfig,
}

impl Default for DeliveryConfig {
    fn default() -> Self {
        Self {
            ehlo_name: String::new(),
            source_address: None,
            body_megabytes: 512,
            conversations: 2_000,
            envelopes: 400_000,
            shard_capacity: 19_000,
            idle_secs: 3,
            connect_timeout_secs: 30,
            longest_reply_secs: 600,
            most_addresses: 5,
            first_closure_secs: 60,
            index_wait_secs: 60,
            jam_from: 200,
            promote: true,
            drain_secs: 30,
            shaping: ShapingConfig::default(),
            dns: DnsConfig::default(),
            sites: SiteResolverConfig::default(),
            dialer: DialerConfig::default(),
        }
    }
}

/// `[delivery.shaping]`: limits of the paths to any site, and of those to named sites. Providers that are known
/// have limits of their own, as public sources have them: a default given here makes them stricter only, the table of a site replaces them.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ShapingConfig {
    /// Of every site that is neither named below nor known; those that are known it makes stricter only.
    pub default: LimitsConfig,
    /// By site.
    pub site: BTreeMap<String, LimitsConfig>,
}

/// The limits of one path; what is absent is as the default has it, for a known provider as is published. Of two rates the one
/// counts that allows less in a day.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LimitsConfig {
    /// Connections at the same time (10).
    pub connections: Option<u32>,
    /// Messages over one connection (100).
    pub messages_per_connection: Option<u32>,
    /// Recipients per time: `100/s`, `5000/m`, `5000/h`, `20000/d` (no limit).
    pub message_rate: Option<String>,
}

impl LimitsConfig {
    fn over(&self, base: PathLimits, key: &str) -> anyhow::Result<PathLimits> {
        let positive = |value: Option<u32>, base: u32, name: &str| match value {
            Some(0) => anyhow::bail!("delivery.shaping.{key}.{name} must be at least 1"),
            Some(value) => Ok(value),
            None => Ok(base),
        };
        let message_rate = match &self.message_rate {
            Some(rate) => Some(rate.parse().with_context(|| format!("delivery.shaping.{key}.message_rate"))?),
            None => base.message_rate,
        };
        Ok(PathLimits {
            connections: positive(self.connections, base.connections, "connections")?,
            messages_per_connection: positive(
                self.messages_per_connection,
                base.messages_per_connection,
                "messages_per_connection",
            )?,
            message_rate,
        })
    }
}

impl ShapingConfig {
    /// The limits as the machine wants them.
    ///
    /// # Errors
    /// Names the key that is wrong.
    pub fn build(&self) -> anyhow::Result<Shaping> {
        let default = self.default.over(PathLimits::default(), "default")?;
        let endless = PathLimits { connections: u32::MAX, messages_per_connection: u32::MAX, message_rate: None };
        let given = self.default.over(endless, "default")?;
        let published = |site: &SiteName| sites::default_limits(site).map(|limits| limits.strictest(given));
        let known = sites::configured_sites().filter_map(|site| site.parse::<SiteName>().ok());
        let mut sites: BTreeMap<SiteName, PathLimits> =
            known.filter_map(|site| published(&site).map(|limits| (site, limits))).collect();
        for (site, limits) in &self.site {
            let name: SiteName = site.parse().with_context(|| format!("delivery.shaping.site.{site}"))?;
            let base = published(&name).unwrap_or(default);
            sites.insert(name, limits.over(base, &format!("site.{site}"))?);
        }
        Ok(Shaping { default, sites })
    }
}

impl DeliveryConfig {
    /// The numbers of the dispatcher.
    pub fn dispatcher(&self, tier_delays: TierDelays) -> DispatcherConfig {
        let base = DispatcherConfig::default();
        let first_closure = Duration::from_secs(self.first_closure_secs.max(1));
        DispatcherConfig {
            tier_delays,
            index_wait: Duration::from_secs(self.index_wait_secs),
            index_capacity: self.envelopes,
            shard_capacity: self.shard_capacity.clamp(100, 19_000),
            tenant_site_capacity: self.shard_capacity.clamp(100, 19_000) / 2,
            body_bytes: self.body_megabytes.saturating_mul(1 << 20),
            conversations: self.conversations.max(2),
            jam_from: self.jam_from.max(1),
            idle_timeout: Duration::from_secs(self.idle_secs),
            first_closure,
            longest_closure: base.longest_closure.max(first_closure),
            ..base
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_named_site_inherits_what_it_does_not_say() {
        let config: ShapingConfig = ShapingConfig {
            default: LimitsConfig { connections: Some(4), message_rate: Some("10/s".into()), ..Default::default() },
            site: [("google".to_owned(), LimitsConfig { connections: Some(20), ..Default::default() })].into(),
        };
        let shaping = config.build().unwrap();
        let google = shaping.of(&"google".parse().unwrap());
        assert_eq!((google.connections, google.messages_per_connection), (20, 50));
        assert_eq!(google.message_rate.unwrap().to_string(), "10/s");
        let yahoo = shaping.of(&"yahoo".parse().unwrap());
        assert_eq!((yahoo.connections, yahoo.messages_per_connection), (4, 20));
        assert_eq!(shaping.of(&"example.net".parse().unwrap()).connections, 4);
    }

    #[test]
    fn a_known_provider_has_its_published_limits_where_nothing_is_said() {
        let shaping = ShapingConfig::default().build().unwrap();
        let comcast = shaping.of(&"comcast".parse().unwrap());
        assert_eq!((comcast.connections, comcast.messages_per_connection), (25, 1_000));
        assert_eq!(*shaping.of(&"example.net".parse().unwrap()), PathLimits::default());
    }

    #[test]
    fn a_wrong_limit_is_named() {
        let bad = |limits| ShapingConfig { site: [("google".to_owned(), limits)].into(), ..Default::default() };
        let zero = bad(LimitsConfig { connections: Some(0), ..Default::default() }).build().unwrap_err();
        assert!(zero.to_string().contains("delivery.shaping.site.google.connections"), "{zero}");
        let rate = bad(LimitsConfig { message_rate: Some("fast".into()), ..Default::default() }).build().unwrap_err();
        assert!(format!("{rate:#}").contains("delivery.shaping.site.google.message_rate: \"fast\""), "{rate:#}");
    }
}
