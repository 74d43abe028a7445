//! What goes wrong. Each fault begins, lasts and ends by the run's dice, says what it does, and notes what it may have cut.

pub mod clock;

mod descriptors;

mod names;

mod nats;

mod owners;

mod records;

mod signals;

pub mod store;

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::Result;

use super::kind::Kind;
use super::world::World;
use crate::load::Sent;
use crate::processes::Processes;

/// Lets it happen, from its beginning to its end. What was sent for its sake is returned.
///
/// # Errors
/// If it could not be done, or something that must hold meanwhile does not.
pub fn happen(world: &mut World, kind: Kind) -> Result<Sent> {
    match kind {
        Kind::Kill => signals::kill(world)?,
        Kind::Freeze => signals::freeze(world)?,
        Kind::NatsKilled => nats::killed(world)?,
        Kind::NatsOneOfThree => nats::one_of_three(world)?,
        Kind::NatsThreeOfThree => nats::three_of_three(world)?,
        Kind::NatsHung => return nats::hung(world),
        Kind::DiskFull => store::full(world)?,
        Kind::DiskReadOnly => store::read_only(world)?,
        Kind::ClockStep => clock::step(world)?,
        Kind::DnsSilent => names::silent(world)?,
        Kind::DnsLying => names::lying(world)?,
        Kind::DnsSlow => names::slow(world)?,
        Kind::Descriptors => descriptors::exhausted(world)?,
        Kind::TwoOwners => owners::two(world)?,
        Kind::Poison => records::poison(world)?,
        Kind::NextVersion => records::next_version(world)?,
        Kind::DiskSlow => store::slow(world)?,
    }
    Ok(Sent::default())
}

/// How often a process has written this.
pub fn logged(cluster: &Processes, name: &str, text: &str) -> usize {
    std::fs::read_to_string(cluster.log(name)).unwrap_or_default().matches(text).count()
}

/// All metrics of a process.
///
/// # Errors
/// If it does not answer.
pub fn metrics(address: SocketAddr) -> Result<String> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text)
}
