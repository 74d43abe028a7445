//! One seed: a world drawn from it, some minutes in which anything happens, then quiet until all mail has its end, and the verdict.

mod operator;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use postrider_dispatch::dispatcher::DispatcherConfig;
use postrider_dispatch::limits::{PathLimits, Shaping};
use postrider_dispatch::ownership::Lease;
use postrider_model::{Body, Class, Envelope, EnvelopeState, MemberId, MessageId, ReversePath, SiteName, Timestamp};
use tokio_util::sync::CancellationToken;

use crate::exchangers::Exchangers;
use crate::exec::{BEGIN, Life, Sim};
use crate::jetstream::Publish;
use crate::judge::Judge;
use crate::nats::{Nats, Packet, Payload};
use crate::process::{LimitBus, Process, World};
use crate::spool::{DELAYS, Spool, lay_out, list_leases};

/// How long mail may take once all is well: less than the ack wait of READY, which nothing may have to wait for.
const PATIENCE: Duration = Duration::from_secs(900);

/// What a seed came to.
#[derive(Clone, Debug, Default)]
pub struct Verdict {
    /// What was violated.
    pub violations: Vec<String>,
    /// What happened, for people.
    pub log: Vec<String>,
    /// The same for two runs that went the same way.
    pub trace: u64,
    /// Steps of tasks.
    pub steps: u64,
    /// Faults.
    pub faults: u64,
    /// Recipients that got their message more than once, within the bound.
    pub doubled: u32,
}

struct Story {
    world: World,
    sim: Sim,
    processes: Vec<Process>,
    lives: u32,
    faults: u64,
    log: Vec<String>,
    /// Whether somebody writes to the lease bucket who has no business there.
    tampered: bool,
}

/// Runs one seed.
pub fn run(seed: u64) -> Verdict {
    tell_of(seed, false)
}

/// Runs one seed and writes down what happened to the parts that something was wrong with.
pub fn tell_of(seed: u64, listening: bool) -> Verdict {
    let sim = Sim::new(seed);
    let story = Rc::new(RefCell::new(Story::new(&sim)));
    let judge = story.borrow().world.judge.clone();
    if listening {
        judge.listen();
    }
    let calm = CancellationToken::new();
    sim.spawn(Life::WORLD, tell(Rc::clone(&story), calm.clone()));
    let broken = judge.clone();
    sim.run(BEGIN.after(Duration::from_secs(3_600)), || calm.is_cancelled() || broken.is_violated());
    let last = sim.now().after(PATIENCE);
    loop {
        let mut at = sim.now();
        while !judge.is_violated() && at < last && !judge.is_over() {
            // Whatever ended by itself (its name was taken by a late word of its earlier life) is started again by whoever watches
            // over it.
            story.borrow_mut().replace_ended();
            at = at.after(Duration::from_secs(5));
            sim.run(at, || broken.is_violated());
        }
        // What is doubled later counts too: everything that is still on its way arrives, and senders go on until they are heard.
        let rest = sim.now().after(Duration::from_secs(130));
        sim.run(rest, || broken.is_violated());
        judge.looks_for_rest();
        if judge.is_violated() || judge.is_over() || sim.now() >= last {
            break;
        }
    }
    if !judge.is_violated() {
        judge.conclude();
    }
    let story = story.borrow();
    let mut log = story.log.clone();
    log.extend(judge.heard());
    for part in judge.guilty() {
        log.push(format!("what happened to {}:{}", part.0, part.1));
        log.extend(judge.told(part));
    }
    let verdict = Verdict {
        violations: judge.violations(),
        log,
        trace: sim.trace(),
        steps: sim.steps(),
        faults: story.faults,
        doubled: judge.doubled(),
    };
    drop(story);
    sim.end();
    verdict
}

fn shaping(sim: &Sim) -> Shaping {
    let rate = ["10/s", "40/m", "20/m", "90/m", "25/s"][usize::try_from(sim.below(5)).unwrap()];
    let limits = |rate: Option<&str>| PathLimits {
        connections: u32::try_from(1 + sim.below(4)).unwrap(),
        messages_per_connection: u32::try_from(1 + sim.below(6)).unwrap(),
        message_rate: rate.map(|rate| rate.parse().unwrap()),
    };
    Shaping { default: limits(None), sites: [("site1.example".parse().unwrap(), limits(Some(rate)))].into() }
}

fn dispatcher(sim: &Sim) -> DispatcherConfig {
    let number = |least, most| usize::try_from(least + sim.below(most - least)).unwrap();
    DispatcherConfig {
        tier_delays: DELAYS,
        index_wait: Duration::from_secs(6),
        shard_capacity: number(6, 60),
        tenant_site_capacity: number(4, 30),
        body_bytes: 2_000 + sim.below(30_000),
        conversations: number(2, 10),
        moves_at_once: number(1, 8),
        first_closure: Duration::from_secs(4),
        longest_closure: Duration::from_secs(20),
        first_suspension: Duration::from_secs(1),
        longest_suspension: Duration::from_secs(8),
        ..DispatcherConfig::default()
    }
}

impl Story {
    fn new(sim: &Sim) -> Self {
        let nats = Nats::new(sim);
        let room = sim.chance(150).then(|| 20_000 + sim.below(20_000));
        // Perhaps not for as long as it takes until an interrupted move is made again.
        let repeats = Duration::from_secs(if sim.chance(250) { 20 } else { 60 });
        let hold_room = sim.chance(300).then(|| 1_500 + sim.below(6_000));
        lay_out(&mut nats.server.borrow_mut(), (room, hold_room), repeats);
        let shaping = shaping(sim);
        let judge = Judge::new(sim, &nats, shaping.clone(), repeats);
        let exchangers = Exchangers::new(sim, &judge, [20, 100, 1_000][usize::try_from(sim.below(3)).unwrap()]);
        let sites: BTreeMap<String, SiteName> = (0..4).map(|n| (format!("domain{n}.example"), site(n % 3))).collect();
        let world = World {
            sim: sim.clone(),
            bus: LimitBus::new(sim),
            config: dispatcher(sim),
            sites: Rc::new(RefCell::new(sites)),
            nats,
            judge,
            exchangers,
            shaping,
        };
        let tampered = sim.chance(120);
        let mut story =
            Self { world, sim: sim.clone(), processes: Vec::new(), lives: 0, faults: 0, log: Vec::new(), tampered };
        for _ in 0..1 + sim.below(3) {
            story.start(None);
        }
        story
    }

    fn note(&mut self, what: &str) {
        let at = self.sim.now().since(BEGIN).as_millis();
        self.log.push(format!("{at} ms: {what}"));
    }

    fn start(&mut self, me: Option<MemberId>) {
        self.lives += 1;
        let life = Life(self.lives);
        let me = me.unwrap_or_else(|| format!("member{}", self.lives).parse().unwrap());
        let skew = i64::try_from(self.sim.below(60_000)).unwrap() - 30_000;
        self.note(&format!("{me} starts as {life:?}"));
        self.processes.push(Process::start(&self.world, life, me, skew));
    }

    fn replace_ended(&mut self) {
        let (ended, left): (Vec<_>, Vec<_>) = self.processes.drain(..).partition(Process::has_ended);
        self.processes = left;
        for process in ended {
            self.world.judge.died(process.life);
            self.sim.kill(process.life);
            self.world.nats.disconnect(process.life);
            self.note(&format!("{} ({:?}) has ended by itself", process.me, process.life));
            self.start(Some(process.me));
        }
    }

    fn pick(&self) -> Option<usize> {
        let count = u64::try_from(self.processes.len()).unwrap();
        (count > 0).then(|| usize::try_from(self.sim.below(count)).unwrap())
    }

    fn kill(&mut self, which: usize) -> MemberId {
        let process = self.processes.remove(which);
        self.note(&format!("{} ({:?}) is killed", process.me, process.life));
        self.world.judge.died(process.life);
        self.sim.kill(process.life);
        self.world.nats.disconnect(process.life);
        process.me
    }
}

fn site(n: u64) -> SiteName {
    format!("site{n}.example").parse().unwrap()
}

/// What happens, until it is calm.
async fn tell(story: Rc<RefCell<Story>>, calm: CancellationToken) {
    let (sim, world) = {
        let story = story.borrow();
        (story.sim.clone(), story.world.clone())
    };
    sim.spawn(Life::WORLD, send_mail(world.clone()));
    sim.spawn(Life::WORLD, operator::operate(Rc::clone(&story), calm.clone()));
    world.nats.set_losses(sim.below(3) * 15);
    world.bus.set_losses(sim.below(3) * 30);
    let end = sim.now().after(Duration::from_secs(30 + sim.below(60)));
    let pace = [3_000, 8_000, 20_000][usize::try_from(sim.below(3)).unwrap()];
    loop {
        sim.sleep(sim.some_time(pace)).await;
        if sim.now() >= end {
            break;
        }
        happen(&story, &world, &sim).await;
        story.borrow_mut().faults += 1;
    }
    world.nats.set_losses(0);
    world.bus.set_losses(0);
    world.exchangers.calm_down();
    let mut story = story.borrow_mut();
    story.note("calm");
    story.replace_ended();
    if story.processes.is_empty() {
        story.start(None);
    }
    drop(story);
    calm.cancel();
}

async fn happen(story: &Rc<RefCell<Story>>, world: &World, sim: &Sim) {
    let (which, tampered) = (story.borrow().pick(), story.borrow().tampered);
    if tampered && sim.chance(200) {
        let what = tamper(world, sim);
        return story.borrow_mut().note(&what);
    }
    match (sim.below(100), which) {
        // Killed, and started again under its old name or another.
        (0..40, Some(which)) => {
            let me = story.borrow_mut().kill(which);
            let (later, same, story) = (sim.some_time(8_000), sim.chance(500), Rc::clone(story));
            let waiting = sim.clone();
            sim.spawn(Life::WORLD, async move {
                waiting.sleep(later).await;
                story.borrow_mut().start(same.then_some(me));
            });
        }
        // Frozen, for a moment or past its fence.
        (40..60, Some(which)) => {
            let long = sim.chance(600);
            let time = sim.some_time(if long { 40_000 } else { 11_000 });
            let (life, judge) = (story.borrow().processes[which].life, world.judge.clone());
            story.borrow_mut().note(&format!("{life:?} is frozen for {time:?}"));
            judge.froze(life);
            sim.freeze(life);
            let waiting = sim.clone();
            sim.spawn(Life::WORLD, async move {
                waiting.sleep(time).await;
                judge.thawed(life);
                waiting.thaw(life);
            });
        }
        // A process more, or one that ends in good order.
        (60..70, _) if story.borrow().processes.len() < 4 => story.borrow_mut().start(None),
        (70..80, Some(which)) if story.borrow().processes.len() > 1 => {
            let process = story.borrow_mut().processes.remove(which);
            story.borrow_mut().note(&format!("{} ({:?}) is to end", process.me, process.life));
            process.stop();
            let (waiting, judge, nats) = (sim.clone(), world.judge.clone(), world.nats.clone());
            sim.spawn(Life::WORLD, async move {
                for _ in 0..600 {
                    waiting.sleep(Duration::from_millis(100)).await;
                    if process.has_ended() {
                        break;
                    }
                }
                judge.died(process.life);
                waiting.kill(process.life);
                nats.disconnect(process.life);
            });
        }
        (80..88, _) => {
            story.borrow_mut().note("the server is restarted");
            let down = sim.some_time(4_000);
            world.nats.restart(down).await;
        }
        (88..94, _) => {
            let time = sim.some_time(16_000);
            story.borrow_mut().note(&format!("the server hangs for {time:?}"));
            world.nats.hang(time);
        }
        _ => {
            let (domain, to) = (sim.below(4), sim.below(3));
            story.borrow_mut().note(&format!("domain{domain}.example moves to site {to}"));
            world.sites.borrow_mut().insert(format!("domain{domain}.example"), site(to));
        }
    }
}

/// Somebody who does not know what a lease is for writes to the lease bucket. Says what.
fn tamper(world: &World, sim: &Sim) -> String {
    let now = sim.now();
    let mut server = world.nats.server.borrow_mut();
    let leases = list_leases(&mut server, now);
    world.judge.is_tampered_with();
    let members: Vec<MemberId> = leases.members.keys().cloned().chain(["ghost".parse().unwrap()]).collect();
    let pick = |count: usize| usize::try_from(sim.below(u64::try_from(count.max(1)).unwrap())).unwrap();
    let (key, value) = if sim.chance(300) {
        (format!("member.{}", members[pick(members.len())]), Payload::Gone)
    } else {
        let shards: Vec<_> = leases.shards.into_iter().collect();
        let Some((shard, (lease, _))) = shards.get(pick(shards.len())).cloned() else { return "nothing".to_owned() };
        let (owner, epoch) = (members[pick(members.len())].clone(), lease.epoch);
        let lease = match sim.below(5) {
            0 => Some(Lease { owner, epoch: epoch + 1, ..lease }),
            1 => Some(Lease { owner, ..lease }),
            2 => Some(Lease { owner, epoch: epoch.saturating_sub(1), ..lease }),
            3 => Some(Lease { released: true, epoch: epoch + 1, ..lease }),
            _ => None,
        };
        (format!("shard.{shard}"), lease.map_or(Payload::Gone, |lease| Payload::Lease(shard, lease)))
    };
    let what = format!("{key} is made {value:?}");
    let mut message = Publish::new(format!("lease.{key}"), "", value);
    message.id = None;
    drop(server.publish(message, now));
    what
}

async fn send_mail(world: World) {
    let sim = world.sim.clone();
    let spool = Spool { sim: sim.clone(), client: world.nats.connect(Life::WORLD), life: Life::WORLD };
    let messages = 4 + sim.below(40);
    for number in 0..messages {
        sim.sleep(sim.some_time(2_000)).await;
        let (world, spool, sim_too) = (world.clone(), spool.clone(), sim.clone());
        sim.spawn(Life::WORLD, async move {
            // Whoever is not told that it is safe comes again, with what is another message then.
            for again in 0..20u64 {
                let parts = compose(&world, &sim_too, number * 100 + again);
                if submit(&world, &spool, parts).await {
                    return;
                }
                sim_too.sleep(Duration::from_secs(10)).await;
            }
        });
    }
}

async fn submit(world: &World, spool: &Spool, mut parts: Vec<Packet>) -> bool {
    // From here on no new mail is taken: the rest is for moves.
    if spool.is_full_for(Duration::from_secs(86_400)).await {
        return false;
    }
    world.judge.offered(&parts);
    let large = spool.sim.chance(200);
    if parts.len() > 1 || large {
        let Ok(stored) = spool.put_body(parts.len() > 1).await else { return false };
        parts.iter_mut().for_each(|part| part.body = Body::Stored(stored.clone()));
    }
    let accepted = match parts.len() {
        1 => spool.publish_ready(&parts[0]).await.is_ok(),
        _ => spool.publish_intake(parts.clone()).await.is_ok(),
    };
    world.judge.answered(&parts, accepted);
    accepted
}

fn compose(world: &World, sim: &Sim, number: u64) -> Vec<Packet> {
    let mut random = [0; 10];
    random[2..].copy_from_slice(&number.to_be_bytes());
    let (message, now) = (MessageId::new(sim.now(), random), sim.now());
    let class = if sim.chance(350) { Class::Transactional } else { Class::Bulk };
    let (tenant, count) = (sim.below(3), if sim.chance(300) { 2 + sim.below(6) } else { 1 });
    let life = Duration::from_secs(if sim.chance(50) { 20 + sim.below(60) } else { 86_400 });
    let part = |part: u64| {
        let recipients = if class == Class::Transactional { 1 + sim.below(3) } else { 1 };
        let domain = format!("domain{}.example", sim.below(4));
        let site = world.sites.borrow()[&domain].clone();
        let envelope = Envelope {
            message,
            part: u32::try_from(part).unwrap(),
            tenant: format!("tenant{tenant}").parse().unwrap(),
            class,
            campaign: None,
            pool: None,
            sender: ReversePath::Null,
            recipients: (0..recipients).map(|n| format!("user{n}@{domain}").parse().unwrap()).collect(),
            arrival: now,
            not_before: sim.chance(60).then(|| now.after(sim.some_time(60_000))),
            expiry: now.after(life),
            header_message_id: String::new(),
            from_domain: None,
            size_bytes: 100 + sim.below(900),
            eight_bit: false,
            smtputf8: false,
            metadata: Vec::new(),
            state: EnvelopeState {
                hop: 0,
                attempt: 0,
                site,
                slice: 0,
                pending: (0..u32::try_from(recipients).unwrap()).collect(),
                last_reply: None,
            },
        };
        let body = Body::Inline { bytes: Bytes::from_static(b"body"), compressed: false };
        Packet { envelope, body }
    };
    (0..count).map(part).collect()
}

/// The moment virtual time begins, for logs.
pub fn begin() -> Timestamp {
    BEGIN
}
