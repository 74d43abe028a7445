//! The kinds of faults. Seeds go round them, so that each has its share of any row of seeds.

use std::fmt;
use std::str::FromStr;

use anyhow::{Result, bail};

use crate::tmpfs::Tmpfs;

/// What goes wrong in a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Any process dies by SIGKILL, several times.
    Kill,
    /// Any process is frozen by SIGSTOP, several times.
    Freeze,
    /// The only nats-server dies by SIGKILL.
    NatsKilled,
    /// One of three nats-servers dies by SIGKILL.
    NatsOneOfThree,
    /// All of three nats-servers die by SIGKILL.
    NatsThreeOfThree,
    /// nats-server does not answer for 10 s.
    NatsHung,
    /// JetStream's file system is full.
    DiskFull,
    /// JetStream's store cannot be written to.
    DiskReadOnly,
    /// The clock of our processes steps by an hour, forth or back.
    ClockStep,
    /// DNS does not answer.
    DnsSilent,
    /// DNS answers what is not true.
    DnsLying,
    /// DNS takes its time.
    DnsSlow,
    /// A process has no file descriptors left.
    Descriptors,
    /// The lease bucket is written to by somebody else: shards have two owners.
    TwoOwners,
    /// Records that are no packets lie in READY, in tiers and in INTAKE.
    Poison,
    /// Records for a newer reader lie in READY, in tiers and in INTAKE.
    NextVersion,
    /// Every write of nats-server to its store takes up to half a second.
    DiskSlow,
}

impl Kind {
    /// All of them; seed n is of kind n modulo their number.
    pub const ALL: [Self; 17] = [
        Self::Kill,
        Self::Freeze,
        Self::NatsKilled,
        Self::NatsOneOfThree,
        Self::NatsThreeOfThree,
        Self::NatsHung,
        Self::DiskFull,
        Self::DiskReadOnly,
        Self::ClockStep,
        Self::DnsSilent,
        Self::DnsLying,
        Self::DnsSlow,
        Self::Descriptors,
        Self::TwoOwners,
        Self::Poison,
        Self::NextVersion,
        Self::DiskSlow,
    ];

    /// The kind of a seed.
    pub fn of(seed: u64) -> Self {
        Self::ALL[usize::try_from(seed % Self::ALL.len() as u64).unwrap_or_default()]
    }

    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Kill => "kill",
            Self::Freeze => "freeze",
            Self::NatsKilled => "nats-killed",
            Self::NatsOneOfThree => "nats-1-of-3",
            Self::NatsThreeOfThree => "nats-3-of-3",
            Self::NatsHung => "nats-hung",
            Self::DiskFull => "disk-full",
            Self::DiskReadOnly => "disk-read-only",
            Self::ClockStep => "clock-step",
            Self::DnsSilent => "dns-silent",
            Self::DnsLying => "dns-lying",
            Self::DnsSlow => "dns-slow",
            Self::Descriptors => "descriptors",
            Self::TwoOwners => "two-owners",
            Self::Poison => "poison",
            Self::NextVersion => "next-version",
            Self::DiskSlow => "disk-slow",
        }
    }

    /// Whether exchangers are found by DNS instead of a route.
    pub const fn asks_dns(self) -> bool {
        matches!(self, Self::DnsSilent | Self::DnsLying | Self::DnsSlow)
    }

    /// Why it cannot be had on this machine, if so.
    pub fn impossible(self) -> Option<String> {
        match self {
            Self::DiskFull if !Tmpfs::is_possible() => Some("no tmpfs can be mounted here (only root may)".to_owned()),
            Self::DiskReadOnly if !super::faults::store::can_be_immutable() => {
                Some("files cannot be made immutable here (chattr +i, only root may)".to_owned())
            }
            Self::ClockStep if super::faults::clock::library().is_none() => {
                Some("libfaketime is not installed (Debian: faketime)".to_owned())
            }
            Self::DiskSlow => crate::power_cut::obstacle(),
            _ => None,
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Kind {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        match Self::ALL.into_iter().find(|kind| kind.name() == text) {
            Some(kind) => Ok(kind),
            None => bail!("there is no kind {text:?}; there are {}", Self::ALL.map(Self::name).join(", ")),
        }
    }
}
