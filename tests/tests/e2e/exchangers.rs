//! Exchangers are found by real DNS packets: preference, the next host on failure, implicit and null MX, names that do not
//! exist, servers that fail, and addresses that must not be connected to.

use std::net::{IpAddr, Ipv4Addr};

use anyhow::Result;
use postrider_tests::cluster::{Cluster, Plan};
use postrider_tests::dns::{DnsServer, Fault, Zone};
use postrider_tests::mail::Mail;
use postrider_tests::provider::Provider;

const LIVE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const DEAD: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 2, 1));

fn zone() -> Result<Zone> {
    Ok(Zone::default()
        .address("dead.mail.example", DEAD)
        .address("live.mail.example", LIVE)
        .mx("backup.example", 20, "live.mail.example")?
        .mx("backup.example", 10, "dead.mail.example")?
        .address("implicit.example", LIVE)
        .mx("null.example", 0, ".")?
        .mx("workspace.example", 1, "aspmx.l.google.com")?
        .address("aspmx.l.google.com", LIVE)
        .fault("broken.example", Fault::ServerFailure))
}

struct World {
    cluster: Cluster,
    provider: Provider,
    _dns: DnsServer,
    _runtime: tokio::runtime::Runtime,
}

fn world(also_public: &str) -> Result<World> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let dns = runtime.block_on(DnsServer::start(zone()?))?;
    let provider = Provider::start(&[])?;
    let config = format!(
        "[delivery.dns]\nservers = [\"{}\"]\n[delivery.sites]\nexchanger_port = {}\n[delivery.dialer]\nalso_public = {}",
        dns.address(),
        provider.address.port(),
        also_public
    );
    let cluster = Plan::new()?.with(&["--no-receiver"]).config(&config).start()?;
    Ok(World { cluster, provider, _dns: dns, _runtime: runtime })
}

#[test]
fn mail_finds_its_exchangers() -> Result<()> {
    let world = world("[\"127.0.0.0/8\"]")?;
    let cluster = &world.cluster;
    let submit = |to: &str| cluster.submit(&Mail::new(&cluster.sender("news"), &[to], to));

    let backup = cluster.end_of(&submit("alice@backup.example")?)?;
    assert_eq!(backup.events(), ["delivered"], "the next exchanger is tried when the first refuses: {backup:?}");
    let implicit = cluster.end_of(&submit("alice@implicit.example")?)?;
    assert_eq!(implicit.events(), ["delivered"], "without MX the address of the domain counts: {implicit:?}");
    let google = cluster.end_of(&submit("alice@workspace.example")?)?;
    assert_eq!(google.events(), ["delivered"], "{google:?}");
    assert_eq!(world.provider.lines_of("alice@workspace.example")?.len(), 1);
    let events = cluster.run(&["event", "export", "--since", "10m", "--format", "ndjson"])?;
    let events = String::from_utf8(events.stdout)?;
    let of_google = events.lines().filter(|line| line.contains("alice@workspace.example"));
    assert!(
        of_google.clone().count() == 2 && of_google.clone().all(|line| line.contains("\"site\":\"google\"")),
        "{events}"
    );

    let null = cluster.end_of(&submit("alice@null.example")?)?;
    assert_eq!(null.events(), ["bounced"]);
    assert!(null.reply("alice@null.example").starts_with("556 5.1.10"), "{null:?}");
    let absent = cluster.end_of(&submit("alice@absent.example")?)?;
    assert!(absent.reply("alice@absent.example").starts_with("550 5.1.2"), "{absent:?}");
    let broken = cluster.deferred(&submit("alice@broken.example")?)?;
    assert!(broken.reply("alice@broken.example").starts_with("451 4.4.3"), "{broken:?}");
    Ok(())
}

#[test]
fn an_exchanger_at_an_address_that_is_not_public_is_never_connected_to() -> Result<()> {
    let world = world("[]")?;
    let cluster = &world.cluster;
    let id = cluster.submit(&Mail::new(&cluster.sender("news"), &["alice@implicit.example"], "private"))?;
    let life = cluster.end_of(&id)?;
    assert_eq!(life.events(), ["bounced"]);
    assert!(life.reply("alice@implicit.example").starts_with("550 5.4.4"), "{life:?}");
    assert!(world.provider.ledger()?.is_empty());
    Ok(())
}
