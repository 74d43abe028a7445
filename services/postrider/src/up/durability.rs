//! The durability classes of `postrider up`, and how many nats-servers keep the promise of each in which way.

use std::path::Path;

use clap::ValueEnum;

/// What a `250` promises.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Durability {
    /// Survives kill -9 of anything; not a power cut.
    Process,
    /// On disk (fsync) before `250`: survives a power cut.
    Disk,
    /// On two of three nats-servers before `250`: survives the loss of one of them with its store.
    Quorum,
    /// On disk (fsync) of two of three nats-servers before `250`: survives that loss, and a power cut of all.
    #[value(name = "quorum+disk")]
    QuorumDisk,
}

impl Durability {
    /// The name of the class.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Process => "process",
            Self::Disk => "disk",
            Self::Quorum => "quorum",
            Self::QuorumDisk => "quorum+disk",
        }
    }

    /// What it means, for the banner.
    pub const fn promise(self) -> &'static str {
        match self {
            Self::Process => "a 250 survives kill -9 of anything, not a power cut (--durability disk does)",
            Self::Disk => "a 250 means the mail is on disk (fsync)",
            Self::Quorum => {
                "a 250 means two of three nats-servers have the mail: one may be lost with its store; no power cut"
            }
            Self::QuorumDisk => "a 250 means two of three nats-servers have the mail on disk (fsync)",
        }
    }
}

/// When what nats-server has written is put on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sync {
    /// When the system gets to it.
    Never,
    /// By nats-server, for each message before it is acknowledged.
    Always,
    /// By us, for many messages at once, before they count as accepted ([`postrider_nats::suits`]).
    Together,
}

/// How a promise is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keeping {
    /// How many nats-servers.
    pub servers: usize,
    /// When they, or we, sync.
    pub sync: Sync,
}

impl Keeping {
    /// How the promise of a class is kept with the store in a folder, by so many servers or by as many as are best; nothing if it
    /// cannot be kept by so many.
    pub fn of(class: Durability, servers: Option<u8>, data: &Path) -> Option<Self> {
        let together = || postrider_nats::suits(data);
        let (servers, sync) = match (class, servers) {
            (Durability::Process, None | Some(1)) => (1, Sync::Never),
            (Durability::Disk, None | Some(1)) if together() => (1, Sync::Together),
            (Durability::Disk, Some(1)) => (1, Sync::Always),
            // Their Raft log puts many messages down with one fsync.
            (Durability::Disk | Durability::QuorumDisk, None | Some(3)) => (3, Sync::Always),
            (Durability::Quorum, None | Some(3)) => (3, Sync::Never),
            (_, Some(_)) => return None,
        };
        Some(Self { servers, sync })
    }
}
