//! The mail exchangers of a few sites: slow, refusing, breaking off. Mail is theirs when they say so, whatever becomes of their reply.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use postrider_dispatch::dispatcher::AttemptResult;
use postrider_model::{EnvelopeId, Reply, SiteName};
use tokio::sync::oneshot;

use crate::exec::{Life, Sim};
use crate::judge::Judge;

/// How they behave.
#[derive(Clone)]
pub struct Exchangers {
    sim: Sim,
    judge: Judge,
    /// In thousandths; 0 is a world in which all goes well.
    trouble: Rc<Cell<u64>>,
}

/// What becomes of a message.
pub enum Ending {
    /// Results, and the connection goes on.
    Told(Vec<(u32, AttemptResult)>),
    /// The connection is gone.
    Broken {
        /// After the message was sent entirely.
        after_end_of_data: bool,
    },
}

impl Exchangers {
    /// Exchangers that misbehave in so many of a thousand cases.
    pub fn new(sim: &Sim, judge: &Judge, trouble: u64) -> Self {
        Self { sim: sim.clone(), judge: judge.clone(), trouble: Rc::new(Cell::new(trouble)) }
    }

    /// From now on all goes well.
    pub fn calm_down(&self) {
        self.trouble.set(0);
    }

    fn trouble(&self, thousandths: u64) -> bool {
        self.trouble.get() > 0 && self.sim.chance(thousandths.min(self.trouble.get()))
    }

    /// A name cannot be looked up: for good or for now.
    pub fn unresolvable(&self) -> bool {
        self.trouble(10)
    }

    /// Connects and greets, or fails.
    pub async fn greet(&self, _site: &SiteName) -> Result<(), Option<Reply>> {
        self.sim.sleep(self.sim.some_time(60)).await;
        if self.trouble(60) {
            self.sim.sleep(self.sim.some_time(8_000)).await;
            return Err(self.sim.chance(500).then(|| Reply::new(421, None, "not now")));
        }
        Ok(())
    }

    /// An idle connection is closed after so long.
    pub fn patience(&self) -> Duration {
        if self.trouble(100) { self.sim.some_time(2_000) } else { Duration::from_secs(600) }
    }

    /// A message to some recipients. It goes on without the sender, as a socket does.
    pub fn take(&self, _life: Life, id: EnvelopeId, recipients: Vec<u32>) -> oneshot::Receiver<Ending> {
        let (told, ending) = oneshot::channel();
        let here = self.clone();
        self.sim.spawn(Life::WORLD, async move {
            let slow = here.trouble(80);
            here.sim.sleep(here.sim.some_time(if slow { 14_000 } else { 80 })).await;
            let part = (id.message, id.part);
            if here.trouble(50) || (told.is_closed() && here.sim.chance(500)) {
                drop(told.send(Ending::Broken { after_end_of_data: false }));
                return;
            }
            let mut results = Vec::new();
            for index in recipients {
                let result = match here.sim.below(1_000) {
                    _ if here.trouble.get() == 0 => Reply::new(250, None, "ok"),
                    0..150 => Reply::new(451, None, "later"),
                    150..180 => Reply::new(550, None, "never"),
                    _ => Reply::new(250, None, "ok"),
                };
                if result.is_permanent() {
                    here.judge.refuses(part, index);
                    results.push((index, AttemptResult::Refused(result)));
                } else if result.is_temporary() {
                    results.push((index, AttemptResult::Refused(result)));
                } else {
                    here.judge.takes(part, index);
                    results.push((index, AttemptResult::Delivered(result)));
                }
            }
            here.sim.sleep(here.sim.some_time(40)).await;
            if here.trouble(20) {
                here.judge.unheard(part);
                drop(told.send(Ending::Broken { after_end_of_data: true }));
            } else {
                drop(told.send(Ending::Told(results)));
            }
        });
        ending
    }
}
