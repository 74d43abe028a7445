//! Operators' rules, written straight into the config bucket: for scenarios about what is obeyed, not about the commands.

use std::net::SocketAddr;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use async_nats::jetstream::{self, kv};

/// A rule about a tenant's mail, made now. `scan`: also the tiers at once.
#[derive(Clone, Debug)]
pub struct TenantRule<'a> {
    /// Its id.
    pub id: &'a str,
    /// `suspend release delete bounce flush`
    pub action: &'a str,
    /// Whose mail.
    pub tenant: &'a str,
    /// Whether the tiers are to be scanned.
    pub scan: bool,
}

/// One field of protobuf with bytes or a text.
fn bytes(field: u8, value: &[u8]) -> Vec<u8> {
    let mut out = vec![field << 3 | 2];
    out.extend(varint(u64::try_from(value.len()).unwrap_or_default()));
    out.extend(value);
    out
}

fn number(field: u8, value: u64) -> Vec<u8> {
    let mut out = vec![field << 3];
    out.extend(varint(value));
    out
}

fn varint(mut value: u64) -> Vec<u8> {
    let mut out = Vec::new();
    loop {
        let low = u8::try_from(value & 0x7f).unwrap_or_default();
        value >>= 7;
        out.push(if value == 0 { low } else { low | 0x80 });
        if value == 0 {
            return out;
        }
    }
}

/// `postrider.config.v1.Rule`.
fn encode(rule: &TenantRule<'_>) -> Result<Vec<u8>> {
    let now = u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis())?;
    let mut filter = bytes(1, rule.tenant.as_bytes());
    if matches!(rule.action, "delete" | "bounce" | "flush") {
        filter.extend(number(8, now));
    }
    let mut out = bytes(1, rule.id.as_bytes());
    out.extend(bytes(2, rule.action.as_bytes()));
    out.extend(bytes(3, &filter));
    out.extend(number(5, u64::from(rule.scan)));
    out.extend(bytes(7, b"test"));
    out.extend(number(8, now));
    out.extend(bytes(9, b"a test"));
    Ok(out)
}

fn with_bucket<T>(nats: SocketAddr, work: impl AsyncFnOnce(kv::Store) -> Result<T>) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let context = jetstream::new(async_nats::connect(format!("nats://{nats}")).await?);
        work(context.get_key_value("config").await?).await
    })
}

/// Puts a rule in force.
///
/// # Errors
/// If the bucket cannot be written.
pub fn put(nats: SocketAddr, rule: &TenantRule<'_>) -> Result<()> {
    let value = encode(rule)?;
    with_bucket(nats, async |bucket| {
        bucket.put(format!("rule.{}", rule.id), value.into()).await.context("the rule is not written")?;
        Ok(())
    })
}

/// Removes a rule.
///
/// # Errors
/// If the bucket cannot be written.
pub fn remove(nats: SocketAddr, id: &str) -> Result<()> {
    with_bucket(nats, async |bucket| {
        bucket.delete(format!("rule.{id}")).await.context("the rule is not removed")?;
        Ok(())
    })
}
