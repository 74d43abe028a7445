//! The two classes of mail.

use crate::keyword::keyword;

/// Transactional mail is never behind bulk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// Somebody waits for it: password resets, receipts. At most 100 recipients share a part.
    Transactional,
    /// Newsletters and campaigns. One recipient a part.
    Bulk,
}

impl Class {
    /// Both classes, the urgent one first.
    pub const ALL: [Self; 2] = [Self::Transactional, Self::Bulk];

    /// `transactional` or `bulk`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Transactional => "transactional",
            Self::Bulk => "bulk",
        }
    }

    /// The letter in shard names and subjects: `t` or `b`.
    pub const fn letter(self) -> char {
        match self {
            Self::Transactional => 't',
            Self::Bulk => 'b',
        }
    }

    /// How many recipients at one site may share a part.
    pub const fn recipients_per_part(self) -> usize {
        match self {
            Self::Transactional => 100,
            Self::Bulk => 1,
        }
    }
}

keyword!(Class, "class", "is neither transactional nor bulk");
