//! Shards: the unit of ownership of the queue. Their number and the hash are fixed at first start; the test vectors here
//! keep the hash for ever.

use std::fmt;
use std::str::FromStr;

use xxhash_rust::xxh3::xxh3_64;

use crate::{Class, MessageId, NameError, SiteName};

/// `b00..b63` or `t00..t15`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ShardId {
    /// Which of the two queues.
    pub class: Class,
    /// The number within the queue.
    pub index: u8,
}

impl fmt::Display for ShardId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{}{:02}", self.class.letter(), self.index))
    }
}

impl FromStr for ShardId {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let no = || NameError::unknown("shard", text, "is no shard such as b07 or t15");
        let class = match text.as_bytes().first() {
            Some(b'b') => Class::Bulk,
            Some(b't') => Class::Transactional,
            _ => return Err(no()),
        };
        let digits = text.get(1..).filter(|d| d.len() == 2 && d.bytes().all(|b| b.is_ascii_digit())).ok_or_else(no)?;
        Ok(Self { class, index: digits.parse().map_err(|_| no())? })
    }
}

/// How the queue is cut: fixed at first start, kept in the `config` bucket under `layout`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShardLayout {
    /// Shards of bulk mail.
    pub bulk: u8,
    /// Shards of transactional mail.
    pub transactional: u8,
    /// Streams that share the bulk shards (`READY_B0..`), by shard number modulo streams.
    pub bulk_streams: u8,
    /// Streams that share the bodies (`BODY_0..`) and the events (`EVENTS_0..`).
    pub side_streams: u8,
}

impl ShardLayout {
    /// 64 + 16 shards on 4 + 1 streams: clusters.
    pub const CLUSTER: Self = Self { bulk: 64, transactional: 16, bulk_streams: 4, side_streams: 2 };
    /// 4 + 1 shards on one stream each: `postrider up`.
    pub const SINGLE: Self = Self { bulk: 4, transactional: 1, bulk_streams: 1, side_streams: 1 };

    /// All shards, transactional ones first.
    pub fn shards(&self) -> impl Iterator<Item = ShardId> + use<> {
        let transactional = (0..self.transactional).map(|index| ShardId { class: Class::Transactional, index });
        transactional.chain((0..self.bulk).map(|index| ShardId { class: Class::Bulk, index }))
    }

    /// The shard of a site's mail: xxh3-64 of `<site>` NUL `<slice>`, modulo the number of shards of the class.
    pub fn shard_of(&self, class: Class, site: &SiteName, slice: u16) -> ShardId {
        let count = match class {
            Class::Bulk => self.bulk,
            Class::Transactional => self.transactional,
        };
        let mut key = Vec::with_capacity(site.as_str().len() + 3);
        key.extend_from_slice(site.as_str().as_bytes());
        key.push(0);
        key.extend_from_slice(&slice.to_be_bytes());
        let index = u8::try_from(xxh3_64(&key) % u64::from(count.max(1))).unwrap_or(0);
        ShardId { class, index }
    }

    /// The slice of a message at a giant site that is cut in `slices`; other sites have one.
    pub fn slice_of(message: &MessageId, slices: u16) -> u16 {
        u16::try_from(xxh3_64(message.as_bytes()) % u64::from(slices.max(1))).unwrap_or(0)
    }

    /// The shard whose owner owns every limit of a site that is wider than one egress IP, or without an egress node.
    pub fn limit_shard(&self, site: &SiteName) -> ShardId {
        self.shard_of(Class::Bulk, site, 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_of_a_site_never_changes() {
        let vectors = [("google", 0), ("google", 1), ("example.net", 0), ("[192.0.2.1]", 0)];
        let bulk: Vec<String> = vectors
            .iter()
            .map(|(site, slice)| ShardLayout::CLUSTER.shard_of(Class::Bulk, &site.parse().unwrap(), *slice).to_string())
            .collect();
        assert_eq!(bulk, ["b47", "b57", "b25", "b34"]);
    }

    #[test]
    fn shards_print_and_parse() {
        for shard in ShardLayout::CLUSTER.shards() {
            assert_eq!(shard.to_string().parse::<ShardId>(), Ok(shard));
        }
        for bad in ["", "b", "b1", "x01", "b1x", "b001", "é01"] {
            assert!(bad.parse::<ShardId>().is_err(), "{bad:?}");
        }
        assert_eq!(ShardLayout::CLUSTER.shards().count(), 80);
    }
}
