//! The queue in NATS JetStream. This crate is the only one that speaks NATS: every durable step of a message is a call
//! here, and what to do next is decided elsewhere.
//!
//! # The streams
//!
//! | stream | kind | subjects | what for |
//! | --- | --- | --- | --- |
//! | `READY_B0..` | work queue, discard new | `ready.<shard>.<site>.<tenant>` | bulk mail whose turn it is, dealt out to streams by shard number; one consumer `ready-<shard>` each, pulled by the shard's owner ([`Puller`]) |
//! | `READY_T` | same | same | transactional mail, so that a blast never stands before a password reset |
//! | `RETRY_1m 5m 15m 1h 4h` | work queue, discard new | `retry.<tier>.<t or b>.<shard>.<site>.<tenant>` | mail that waits; everything in a tier waits equally long. Two consumers a tier, `promote-<tier>-t` and `-b`, pulled by any promoter ([`Spool::run_promoters`]) |
//! | `BODY_0..` | limits, discard new, 8 days | `body.<i>` | bodies in chunks of 512 KiB, found by sequence, never by subject ([`Spool::place_body`], [`Spool::read_body`]) |
//! | `INTAKE` | work queue, discard new | `intake.<t or b>` | messages of several parts, one record each; the consumers `split-<t or b>` turn them into READY ([`Spool::run_splitter`]) |
//! | `HOLD` | limits, discard new | `hold.<t or b>.<tenant>.<site>` | mail that an operator's rule suspends ([`Spool::copy_to_hold`], [`Spool::bring_to_ready`]) |
//! | `DEAD` | limits, discard old | `dead.<reason>` | what cannot be decoded or read ([`Spool::bury`]) |
//! | `EVENTS_0..` | limits, discard old, 8 days | `event.<shard>` | the journal in batches ([`Spool::publish_events`], [`Spool::replay_events`], [`Spool::scan_events`]) |
//! | `OPERATIONS` | limits, discard old, a year | `operation` | the audit trail of what operators did ([`Spool::record_operation`], [`Spool::operations`]) |
//! | `KV_config` | key-value, history 5 | `tenant.*` `credential.*` `domain.*` `route.*` `rule.*` `layout` | the state of the system ([`ConfigStore`], [`Spool::watch_snapshot`]) |
//! | `KV_audit` | key-value, 92 days | `sums.<EVENTS stream>.<hour>`, `cursor.<EVENTS stream>`, `check` | hourly sums that outlive EVENTS ([`AuditStore`]) |
//! | `KV_lease` | key-value | `member.<id>` (lives 15 s), `shard.<id>` | who lives and who owns what ([`LeaseStore`]) |
//!
//! The class has a token of its own in `retry.*`, because wildcards match whole tokens and each class has its consumer.
//! `path` and `suppression` are made by the releases that use them.
//!
//! # What holds everywhere
//!
//! - Everything is published with `Nats-Msg-Id` and tried again with the same id until it is acknowledged or its budget is
//!   spent, so a repeat is stored once (within 60 s; later its id shows it).
//! - Consumers are kept in memory. A single server that restarts forgets them: whoever pulls next makes them again. What was
//!   acknowledged stays gone, since a work queue holds nothing else; what was leased comes again.
//! - `discard new` means that a full stream refuses ([`PublishError::Full`]) and deletes nothing.
//! - What owners say of their shards (`state.<shard>`, core NATS) is a hint for whoever publishes to READY: with it, mail that
//!   would only wait goes to a tier at once ([`Spool::tier_for`]); without it, to READY.
//! - No error here ends a loop: everything is tried again after a pause.
//!
//! # Reading order
//!
//! `link` (with `group_commit`); `subject` and `layout` (what is where), `publish`, `intake`, `body`; `pull` and `handle`; `tier`,
//! `promoter`, `splitter`;
//! `events`, `waiting` (reading everything); `bucket` and on it `config_store`, `snapshot`, `lease`, `audit_store`; `question`,
//! `shard_state`.

mod config;
pub use config::{NatsConfig, NatsTls};

mod connect;
pub use connect::ConnectError;

mod link;

mod group_commit;
pub use group_commit::{NotOnDisk, suits};

mod subject;

mod layout;
pub use layout::LayoutError;

mod spool;
pub use spool::{OpenError, Spool};

mod room;

mod publish;
pub use publish::PublishError;

mod intake;

mod compression;

mod body;
pub use body::{BodyError, INLINE_BYTES, LARGEST_MESSAGE, Sharing, decode_body};

mod handle;
pub use handle::{AckError, Handle, Leased, Undecodable};

mod pull;
pub use pull::{Puller, ResetError};

mod dead;
pub use dead::{DeadLetter, DeadLetters, DeadState};

mod operations;
pub use operations::OperationsError;

mod tier;
pub use tier::{Depth, LookError};

mod place;
pub use place::{BringError, Found, PlaceScan, PlaceState};

mod count;

mod promoter;
pub use promoter::PromoterEvent;

mod stay;

mod splitter;
pub use splitter::SplitterEvent;

mod events;
pub use events::{EventScan, EventTail, JournalBatch, JournalReader, Next, ReadError, Replayed, ScanFrom};

mod waiting;
pub use waiting::{Place, Waiting};

mod bucket;
pub use bucket::{BucketError, Expected};

mod key;
pub use key::{ConfigKey, KeyError};

mod config_store;
pub use config_store::{ConfigEntry, ConfigStore};

mod snapshot;

mod lease;
pub use lease::{LeaseStore, Member, Members, PROMOTER, ShardLease, ShardLeases};

mod membership;
pub use membership::{Membership, Standing};

mod shard_state;
pub use shard_state::CreditError;

mod audit_store;
pub use audit_store::{AuditEntry, AuditStore};

mod question;
pub use question::{AskError, Question, Questions};
