//! The owner of a limit is far away, or its process is busy: question and answer take long. What it grants counts from the moment
//! it was asked, so little or nothing of a short life may be left when it arrives.

use std::collections::VecDeque;
use std::time::Duration;

use postrider_model::Timestamp;

use super::world::World;
use crate::dispatcher::{Action, DispatcherConfig, Fact, RequestId};
use crate::limits::{Ask, Grant, PathLimits, PermitId, Shaping};

/// A question on its way to the owner.
struct Question {
    arrives: Timestamp,
    request: RequestId,
    permit: Option<(PermitId, u32)>,
    ask: Ask,
}

/// A world where owner and asker are `way` apart.
struct Far {
    world: World,
    way: Duration,
    questions: VecDeque<Question>,
    answers: VecDeque<(Timestamp, Fact)>,
}

fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

impl Far {
    fn new(rate: &str, way: Duration) -> Self {
        let message_rate = Some(rate.parse().unwrap());
        let limits = PathLimits { connections: 10, messages_per_connection: 100, message_rate };
        let shaping = Shaping { default: limits, ..Shaping::default() };
        let world = World::new(DispatcherConfig::default(), shaping);
        Self { world, way, questions: VecDeque::new(), answers: VecDeque::new() }
    }

    fn send(&mut self, request: RequestId, permit: Option<(PermitId, u32)>, ask: Ask) {
        let arrives = self.world.now.after(self.way);
        self.questions.push_back(Question { arrives, request, permit, ask });
    }

    /// What the asker hears of an answer given now: the owner tells how long from now, the asker counts from when it asked.
    fn hear(&self, request: RequestId, grant: Grant) -> Fact {
        match grant {
            Grant::Granted(mut permit) => {
                permit.until = permit.until.before(self.way);
                permit.messages_until = permit.messages_until.before(self.way);
                Fact::Granted { request, permit }
            }
            Grant::Wait { until, reason } => Fact::Waiting { request, until: until.before(self.way), reason },
        }
    }

    fn owner_answers(&mut self, question: &Question) {
        let (now, fence) = (self.world.now, self.world.now.after(Duration::from_secs(15)));
        let grant = match question.permit {
            Some((permit, used)) => self.world.owner.renew(permit, used, &question.ask, now, fence),
            None => self.world.owner.acquire(&question.ask, now, fence),
        };
        let fact = self.hear(question.request, grant);
        self.answers.push_back((now.after(self.way), fact));
    }

    fn act(&mut self) {
        while let Some(action) = self.world.todo.pop() {
            match action {
                Action::Acquire { request, ask } => self.send(request, None, ask),
                Action::Renew { request, permit, used, ask } => self.send(request, Some((permit, used)), ask),
                action => self.world.perform_well(action),
            }
        }
    }

    fn pass(&mut self, time: Duration) {
        let end = self.world.now.after(time);
        while self.world.now < end {
            self.act();
            self.world.turn_clock(millis(1));
            while let Some(question) = self.questions.pop_front_if(|question| question.arrives <= self.world.now) {
                self.owner_answers(&question);
            }
            while let Some((_, fact)) = self.answers.pop_front_if(|(arrives, _)| *arrives <= self.world.now) {
                self.world.fact(fact);
                self.act();
            }
            self.world.fact(Fact::Tick);
        }
    }
}

#[track_caller]
fn check(rate: &str, way: u64, at_least: usize) {
    let mut far = Far::new(rate, millis(way));
    for _ in 0..2_000 {
        far.world.urgent("acme", "google");
    }
    far.pass(Duration::from_secs(30));
    let count = far.world.transmitted.len();
    assert!(count >= at_least, "{count} in 30 s at {rate}, {way} ms away");
}

#[test]
fn an_owner_nearby_lets_nearly_all_of_a_rate_be_used() {
    check("20/s", 1, 550);
}

#[test]
fn a_rate_is_used_though_the_owners_answers_take_longer_than_its_portions_live() {
    check("20/s", 20, 450);
    check("20/s", 50, 400);
    check("20/s", 150, 300);
}

#[test]
fn mail_goes_even_where_answers_take_as_long_as_they_may() {
    check("20/s", 950, 30);
    check("5/s", 950, 3);
}
