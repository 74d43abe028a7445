//! The words of Postrider as types. Every other crate speaks in them; nothing here does anything but hold, parse,
//! compare and print. One word per idea: the table of words stands in `services/ARCHITECTURE.md`.

mod time;
pub use time::Timestamp;

mod id;
pub use id::{EnvelopeId, Hop, MessageId, ParseIdError, PartNumber};

mod name;
pub use name::{Campaign, CredentialName, MemberId, NameError, PoolName, RuleId, SiteName, TenantId};

mod address;
pub use address::{AddressError, Domain, Mailbox, ReversePath};

mod keyword;

mod class;
pub use class::Class;

mod shard;
pub use shard::{ShardId, ShardLayout};

mod subject;
pub use subject::{escape_token, unescape_token};

mod tier;
pub use tier::{Tier, TierDelays};

mod reply;
pub use reply::{EnhancedCode, Reply};

mod envelope;
pub use envelope::{Body, BodyRef, Envelope, EnvelopeState};

mod record;
pub use record::{Attempt, Move, Outcome, RecipientOutcome, Record, WaitReason};

mod rule;
pub use rule::{Rule, RuleAction, RuleFilter};

mod operation;
pub use operation::Operation;

mod config;
pub use config::{Credential, DkimKey, NextHop, Route, SendingDomain, Snapshot, Tenant, TenantWeight, WeightError};
