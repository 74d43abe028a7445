//! What goes wrong. Each fault begins, lasts and ends by the run's dice, says what it does, and notes what it may have cut.

pub mod clock;

mod descriptors;

mod names;

mod nats;

mod owners;

mod records;

mod signals;

pub mod store;

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
    }
    Ok(Sent::default())
}

/// How often a process has written this.
pub fn logged(cluster: &Processes, name: &str, text: &str) -> usize {
    std::fs::read_to_string(cluster.log(name)).unwrap_or_default().matches(text).count()
}
