//! Pulling from a consumer: one request is open at a time, and what comes to one that was given up is taken all the same. The shape of
//! `services/io/nats/src/pull.rs`.

use std::cell::Cell;
use std::collections::{BTreeSet, VecDeque};
use std::rc::Rc;
use std::time::Duration;

use postrider_dispatch::takeover::Deliveries;
use postrider_model::Timestamp;
use tokio::sync::mpsc;

use super::{Consumer, GRACE, Leased, OPEN, OURS_FOR, Spool};
use crate::jetstream::{Inbox, Push};
use crate::nats::{Pushed, Unanswered, Words};

/// Pulls from one consumer; one request at a time.
pub struct Puller {
    spool: Spool,
    consumer: Consumer,
    /// One subscription for all requests: what comes to one that was given up comes here too.
    words: Words,
    pushes: mpsc::UnboundedReceiver<Pushed>,
    /// Requests that have had no end, the open one among them.
    asked: BTreeSet<Inbox>,
    open: Option<Open>,
    /// When the last request was made.
    last_asked: Timestamp,
    arrived: VecDeque<Leased>,
    exhausted: bool,
    missed: bool,
    /// Requests that had no end in time: what still comes to them comes beside what is asked for anew.
    given_up: Rc<Cell<usize>>,
    deliveries: Deliveries,
}

struct Open {
    inbox: Inbox,
    remaining: usize,
    until: Timestamp,
}

impl Drop for Puller {
    fn drop(&mut self) {
        self.asked.iter().for_each(|inbox| self.spool.client.close(*inbox));
    }
}

impl Puller {
    pub(super) fn new(spool: Spool, consumer: Consumer) -> Self {
        let (words, pushes) = mpsc::unbounded_channel();
        Self {
            last_asked: spool.sim.now(),
            spool,
            consumer,
            words,
            pushes,
            asked: BTreeSet::new(),
            open: None,
            arrived: VecDeque::new(),
            exhausted: false,
            missed: false,
            given_up: Rc::default(),
            deliveries: Deliveries::default(),
        }
    }

    /// Waits until something has come or the request is over, and returns what there is. Safe to drop half way.
    pub async fn pull(&mut self, room: usize, wait: bool) -> Vec<Leased> {
        if self.arrived.is_empty() && room > 0 {
            if self.open.is_none() {
                self.ask(room, wait);
            }
            self.take_next().await;
        }
        self.take_ready();
        self.arrived.drain(..).collect()
    }

    fn ask(&mut self, room: usize, wait: bool) {
        self.exhausted = false;
        self.last_asked = self.spool.sim.now();
        let inbox = self.spool.client.listen(&self.words);
        self.asked.insert(inbox);
        let expires = if wait { OPEN } else { Duration::ZERO };
        let grace = if wait { GRACE } else { Duration::from_secs(2) };
        let until = self.spool.sim.now().after(expires + grace);
        self.open = Some(Open { inbox, remaining: room, until });
        let (stream, config) = (self.consumer.stream(), self.consumer.config());
        self.spool.client.tell(move |server, now| {
            if server.pull(&stream, &config.name, (inbox, room), expires, now).is_err() {
                // Whoever finds it missing makes it again.
                drop(server.create_consumer(&stream, config));
            }
        });
    }

    async fn take_next(&mut self) {
        while self.arrived.is_empty() {
            let Some(until) = self.open.as_ref().map(|open| open.until) else { return };
            tokio::select! {
                biased;
                Some(pushed) = self.pushes.recv() => self.note(pushed),
                () = self.spool.sim.sleep_until(until) => {
                    self.missed = true;
                    self.given_up.set(self.given_up.get() + 1);
                    self.open = None;
                    // What comes late would be taken for what the next request brings, and its lease for a young one.
                    if !matches!(self.consumer, Consumer::Ready(_)) {
                        std::mem::take(&mut self.asked).into_iter().for_each(|inbox| self.spool.client.close(inbox));
                        (self.words, self.pushes) = mpsc::unbounded_channel();
                    }
                }
            }
        }
    }

    fn take_ready(&mut self) {
        while let Ok(pushed) = self.pushes.try_recv() {
            self.note(pushed);
        }
    }

    fn note(&mut self, (inbox, push): Pushed) {
        let ended = match push {
            Push::Message(leased) => {
                self.missed |= self.deliveries.came(leased.token.delivery);
                self.arrived.push_back(leased);
                // Whichever request it came to.
                self.open.take_if(|open| {
                    open.remaining = open.remaining.saturating_sub(1);
                    open.remaining == 0
                });
                return;
            }
            Push::Exhausted => true,
            Push::TooMany => false,
        };
        self.asked.remove(&inbox);
        self.spool.client.close(inbox);
        if self.open.take_if(|open| open.inbox == inbox).is_some() {
            self.exhausted = ended;
        }
    }

    /// Until when what was pulled last is ours to move.
    pub fn ours_until(&self) -> Timestamp {
        self.last_asked.after(OURS_FOR)
    }

    /// How many requests were given up.
    pub fn given_up(&self) -> Rc<Cell<usize>> {
        Rc::clone(&self.given_up)
    }

    /// Whether the last request ended because there was no more.
    pub fn is_exhausted(&self) -> bool {
        self.exhausted && self.arrived.is_empty()
    }

    /// Whether mail may have been handed out that never came.
    pub fn take_missed(&mut self) -> bool {
        std::mem::take(&mut self.missed)
    }

    /// Whether nothing went elsewhere since the RESET, as far as is known without asking.
    pub fn has_no_gap(&self) -> bool {
        self.deliveries.has_no_gap()
    }

    /// Whether nothing did, as the server counts it.
    pub async fn has_all(&mut self) -> bool {
        let (stream, name) = (self.consumer.stream(), self.consumer.config().name);
        let delivered = self.spool.client.ask(move |server, _| server.delivered(&stream, &name).ok()).await;
        let Ok(delivered) = delivered else { return false };
        let all = self.deliveries.has_all(delivered);
        self.missed |= !all;
        all
    }

    /// Makes all unacknowledged mail come again, and counts from there on.
    ///
    /// # Errors
    /// [`Unanswered`].
    pub async fn reset(&mut self) -> Result<(), Unanswered> {
        self.take_ready();
        self.deliveries.resetting();
        let Consumer::Ready(shard) = self.consumer else { return Ok(()) };
        self.spool.reset_consumer(shard).await?;
        self.take_ready();
        self.deliveries.was_reset();
        Ok(())
    }

    /// Waits the open request out, and hands back all that arrives.
    pub async fn stop(mut self) {
        loop {
            self.take_ready();
            for leased in self.arrived.drain(..) {
                self.spool.hand_back(&leased.token, Duration::ZERO);
            }
            if self.open.is_none() {
                return;
            }
            self.take_next().await;
        }
    }
}
