//! What operators did: one entry of the audit trail for each command that changes something, or asked what it would change.

use crate::{RuleFilter, RuleId, Timestamp};

/// A command and what came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operation {
    /// When.
    pub at: Timestamp,
    /// Who: the name of the token or certificate.
    pub who: String,
    /// Which command, as on the command line: `queue delete`.
    pub command: String,
    /// Which mail; `None` where the command is not about mail in the queue.
    pub filter: Option<RuleFilter>,
    /// What a filter cannot say, in words: `dead letters 2, 7`. Usually empty.
    pub which: String,
    /// The rule that it made or removed.
    pub rule: Option<RuleId>,
    /// Whether it only counted.
    pub dry_run: bool,
    /// Why, in the operator's words.
    pub reason: String,
    /// What was counted, by place: `ready`, `1m`, `hold`, ...
    pub counts: Vec<(String, u64)>,
    /// What came of it: `ok`, or what went wrong; a further entry tells of the end of a scan.
    pub outcome: String,
}
