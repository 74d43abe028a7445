//! What a stranger with access to NATS can do: publish records of its own, and write into the lease bucket. The few bytes of
//! protobuf that this takes are made here by hand.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use async_nats::HeaderMap;
use async_nats::jetstream::{self, kv};
use futures_util::{StreamExt, TryStreamExt};

const PATIENCE: Duration = Duration::from_secs(20);

/// A connection of the stranger.
pub struct Wire {
    runtime: tokio::runtime::Runtime,
    context: jetstream::Context,
    client: async_nats::Client,
}

/// A lease as it lies in the bucket.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lease {
    /// The owner's name.
    pub owner: String,
    /// Counts owners.
    pub epoch: u64,
    /// Whether it was given back.
    pub released: bool,
    /// Up to where EVENTS is settled.
    pub settled_through: u64,
}

impl Wire {
    /// Connects.
    ///
    /// # Errors
    /// If NATS does not answer.
    pub fn connect(nats: SocketAddr) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let client = runtime.block_on(async_nats::connect(format!("nats://{nats}")))?;
        let entered = runtime.enter();
        let context = jetstream::new(client.clone());
        drop(entered);
        Ok(Self { runtime, context, client })
    }

    /// So many records that somebody publishes into READY from now on: their subjects and bytes.
    ///
    /// # Errors
    /// If they do not come in time.
    pub fn overhear(&self, count: usize) -> Result<Vec<(String, Vec<u8>)>> {
        self.runtime.block_on(async {
            let mut heard = self.client.subscribe("ready.>").await?;
            let mut records = Vec::new();
            while records.len() < count {
                let record = tokio::time::timeout(PATIENCE, heard.next()).await?.context("the subscription ended")?;
                records.push((record.subject.to_string(), record.payload.to_vec()));
            }
            Ok(records)
        })
    }

    /// Publishes a record, and waits until it is stored.
    ///
    /// # Errors
    /// If it is not.
    pub fn publish(&self, subject: &str, id: &str, record: Vec<u8>) -> Result<()> {
        self.runtime.block_on(async {
            let mut headers = HeaderMap::new();
            headers.insert("Nats-Msg-Id", id);
            let stored = self.context.publish_with_headers(subject.to_owned(), headers, record.into()).await?;
            tokio::time::timeout(PATIENCE, stored).await??;
            Ok(())
        })
    }

    fn bucket(&self) -> Result<kv::Store> {
        Ok(self.runtime.block_on(self.context.get_key_value("lease"))?)
    }

    /// Writes into the lease bucket, whatever is there.
    ///
    /// # Errors
    /// If NATS refuses.
    pub fn put(&self, key: &str, value: Vec<u8>) -> Result<()> {
        let bucket = self.bucket()?;
        self.runtime.block_on(bucket.put(key, value.into()))?;
        Ok(())
    }

    /// What lies there.
    ///
    /// # Errors
    /// If NATS does not answer.
    pub fn get(&self, key: &str) -> Result<Option<Vec<u8>>> {
        let bucket = self.bucket()?;
        Ok(self.runtime.block_on(bucket.get(key))?.map(|value| value.to_vec()))
    }

    /// Deletes from the lease bucket.
    ///
    /// # Errors
    /// If NATS refuses.
    pub fn delete(&self, key: &str) -> Result<()> {
        let bucket = self.bucket()?;
        self.runtime.block_on(bucket.delete(key))?;
        Ok(())
    }

    /// All leases of shards, by shard; those that cannot be read are left out.
    ///
    /// # Errors
    /// If NATS does not answer.
    pub fn leases(&self) -> Result<BTreeMap<String, Lease>> {
        let bucket = self.bucket()?;
        self.runtime.block_on(async {
            let keys: Vec<String> = bucket.keys().await?.try_collect().await?;
            let mut leases = BTreeMap::new();
            for key in keys {
                let Some(shard) = key.strip_prefix("shard.") else { continue };
                if let Some(value) = bucket.get(&key).await?
                    && let Ok(lease) = Lease::decode(&value)
                {
                    leases.insert(shard.to_owned(), lease);
                }
            }
            Ok(leases)
        })
    }
}

impl Lease {
    /// As it lies in the bucket: fields 1 to 4 of `ShardLease`.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![0x0a, u8::try_from(self.owner.len()).unwrap_or(0)];
        bytes.extend_from_slice(self.owner.as_bytes());
        for (tag, value) in [(0x10, self.epoch), (0x18, u64::from(self.released)), (0x20, self.settled_through)] {
            bytes.push(tag);
            varint(value, &mut bytes);
        }
        bytes
    }

    /// Reads one.
    ///
    /// # Errors
    /// If it is none.
    pub fn decode(mut bytes: &[u8]) -> Result<Self> {
        let mut lease = Self::default();
        while let Some((tag, rest)) = bytes.split_first() {
            bytes = rest;
            let value = read_varint(&mut bytes)?;
            match tag {
                0x0a => {
                    let length = usize::try_from(value)?;
                    let owner = bytes.get(..length).context("the owner is cut off")?;
                    lease.owner = String::from_utf8(owner.to_vec())?;
                    bytes = &bytes[length..];
                }
                0x10 => lease.epoch = value,
                0x18 => lease.released = value != 0,
                0x20 => lease.settled_through = value,
                _ => bail!("a field that no lease has: {tag:#x}"),
            }
        }
        Ok(lease)
    }
}

/// A record with field 1 (`min_reader`) set to what no reader is, and a field that no reader knows: in protobuf the last
/// of several counts.
pub fn of_the_next_version(mut record: Vec<u8>) -> Vec<u8> {
    record.extend_from_slice(&[0x08, 99]);
    // Field 200, two bytes long.
    record.extend_from_slice(&[0xc2, 0x0c, 2, b'h', b'i']);
    record
}

fn varint(mut value: u64, into: &mut Vec<u8>) {
    loop {
        let [byte, ..] = value.to_le_bytes();
        value >>= 7;
        if value == 0 {
            return into.push(byte & 0x7f);
        }
        into.push(byte | 0x80);
    }
}

fn read_varint(bytes: &mut &[u8]) -> Result<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first().context("a number is cut off")?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    bail!("a number is too long")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_is_read_as_it_was_written() {
        let lease = Lease { owner: "one".to_owned(), epoch: 300, released: true, settled_through: 1 << 40 };
        assert_eq!(Lease::decode(&lease.encode()).unwrap(), lease);
        assert!(Lease::decode(&lease.encode()[..4]).is_err());
    }
}
