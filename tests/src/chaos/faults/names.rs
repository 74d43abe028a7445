//! DNS that does not answer, answers what is not true, or takes its time.

use anyhow::{Context, Result};

use crate::chaos::plan::Plan;
use crate::chaos::world::{World, truth};
use crate::dns::{Fault, Zone};

/// Answers so for a while, then the truth again.
fn meanwhile(world: &mut World, zone: Zone, what: &str) -> Result<()> {
    let truth = truth(world.cluster.sink.address.ip())?;
    let time = world.dice.millis(2_000, 6_000);
    world.dns.as_ref().context("no name server")?.server.replace(zone);
    std::thread::sleep(time);
    world.dns.as_ref().context("no name server")?.server.replace(truth);
    world.tell(&format!("DNS {what} for {:.1} s", time.as_secs_f64()));
    Ok(())
}

/// No answer at all.
///
/// # Errors
/// If there is no name server.
pub fn silent(world: &mut World) -> Result<()> {
    let zone = truth(world.cluster.sink.address.ip())?.all(Fault::Silence);
    meanwhile(world, zone, "silent")
}

/// Each domain has a lie of its own, some have none. Who is told that a domain does not exist, or takes no mail, bounces.
///
/// # Errors
/// If there is no name server.
pub fn lying(world: &mut World) -> Result<()> {
    let receiver = world.cluster.sink.address.ip();
    let mut zone = Zone::default().ttl(1);
    for domain in Plan::domains() {
        let host = format!("mx.{domain}");
        zone = match world.dice.between(0, 9) {
            0 => zone.fault(&domain, Fault::ServerFailure),
            1 => zone.fault(&domain, Fault::Referral),
            2 => zone.fault(&domain, Fault::Garbage),
            3 => zone.fault(&domain, Fault::NoSuchName),
            4 => zone.mx(&domain, 0, ".")?,
            5 => zone.fault(&domain, Fault::Refused),
            // An exchanger where nobody listens.
            6 => zone.mx(&domain, 10, &host)?.address(&host, "127.0.2.9".parse()?),
            // An exchanger that does not exist.
            7 => zone.mx(&domain, 10, "nowhere.example")?,
            _ => zone.mx(&domain, 10, &host)?.address(&host, receiver),
        };
    }
    world.may_bounce = true;
    meanwhile(world, zone, "lying")
}

/// Answers that come later than they are waited for, or just in time.
///
/// # Errors
/// If there is no name server.
pub fn slow(world: &mut World) -> Result<()> {
    let delay = world.dice.millis(150, 1_500);
    let zone = truth(world.cluster.sink.address.ip())?.delay(delay);
    meanwhile(world, zone, &format!("slow by {} ms", delay.as_millis()))
}
