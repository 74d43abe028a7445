//! Which exchangers belong to which mailbox provider, and what it takes from one address: data, read by [`super::site_of`]
//! and [`super::default_limits`]. Each rule says when it was written and which public source to check it against. Names
//! never hold a dot, so that no domain can pass for a provider.
//!
//! Limits marked "KumoMTA" are the defaults it ships for each address and provider (policy-extras/shaping.toml, looked up
//! 2026-11; those for Yahoo, Comcast and Mimecast came from the providers); "KumoMTA community" are those that its users
//! share (community/shaping.toml). Where nobody has published a number there is none.

use crate::limits::{PathLimits, Rate};

mod giants;

mod mailboxes;

mod access;

mod gateways;

/// How an exchanger's name is recognised.
#[derive(Clone, Copy, Debug)]
pub(super) enum Host {
    /// This very name.
    Is(&'static str),
    /// Any name below this one.
    Under(&'static str),
}

/// A mailbox provider.
#[derive(Clone, Copy, Debug)]
pub(super) struct Provider {
    /// The name of its site.
    pub(super) site: &'static str,
    /// Into how many slices its mail is cut, so that several workers can serve it.
    pub(super) slices: u16,
    /// Its exchangers.
    pub(super) hosts: &'static [Host],
    /// What it takes from one address, where a public source says so.
    pub(super) limits: Option<PathLimits>,
}

/// Slices of the giants, each of which takes a large share of all mail.
const GIANT: u16 = 8;

/// A provider whose limits nobody has published.
const fn provider(site: &'static str, hosts: &'static [Host]) -> Provider {
    Provider { site, slices: 1, hosts, limits: None }
}

impl Provider {
    /// The same, cut in slices.
    const fn giant(mut self) -> Self {
        self.slices = GIANT;
        self
    }

    /// The same with limits: connections from one address at the same time, messages over each.
    const fn takes(mut self, connections: u32, messages_per_connection: u32) -> Self {
        self.limits = Some(PathLimits { connections, messages_per_connection, message_rate: None });
        self
    }

    /// The same with a rate besides.
    const fn at_most(mut self, rate: Rate) -> Self {
        if let Some(limits) = &mut self.limits {
            limits.message_rate = Some(rate);
        }
        self
    }
}

const GROUPS: &[&[Provider]] = &[giants::PROVIDERS, mailboxes::PROVIDERS, access::PROVIDERS, gateways::PROVIDERS];

/// All providers; no host belongs to two of them.
pub(super) fn providers() -> impl Iterator<Item = &'static Provider> {
    GROUPS.iter().flat_map(|group| group.iter())
}
