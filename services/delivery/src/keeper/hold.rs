//! HOLD: whatever no rule keeps there any more is brought to READY, what has expired too. What is new is looked at once; all of it
//! only after a change that may free something.

use std::sync::Arc;
use std::time::Duration;

use postrider_dispatch::rules::Rules;
use postrider_model::Timestamp;
use postrider_nats::{Members, Place};
use postrider_runtime::clock;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{Keeper, LOOK_EVERY, compiled};

/// Expiries alone make the whole of HOLD be looked at no more often than this share of the time that it takes.
const REST: u32 = 20;

/// The clock of an owner may be behind ours: what it would suspend again is not let go yet.
const CLOCKS: Duration = Duration::from_secs(2);

fn late_now() -> Timestamp {
    clock::now().before(CLOCKS)
}

/// How far HOLD has been looked through, and under which rules.
struct Seen {
    rules: Rules,
    at: Timestamp,
    through: u64,
    /// When the first of what stays expires.
    next_expiry: Option<Timestamp>,
    /// Expiries are not looked at before.
    rest_until: Instant,
    /// Something that may leave has not left.
    again: bool,
}

impl Seen {
    fn nothing() -> Self {
        Self {
            rules: Rules::default(),
            at: Timestamp::default(),
            through: 0,
            next_expiry: None,
            rest_until: Instant::now(),
            again: true,
        }
    }

    /// Whether something that was seen to stay may leave now.
    fn is_void(&self, rules: &Rules, now: Timestamp) -> bool {
        let expired = self.next_expiry.is_some_and(|expiry| expiry <= now) && Instant::now() >= self.rest_until;
        let ended = self.rules.next_end(self.at).is_some_and(|end| end <= now);
        self.again || expired || ended || rules.may_free(&self.rules)
    }
}

impl Keeper {
    pub(super) async fn keep_hold(mut self, members: watch::Receiver<Arc<Members>>, stop: CancellationToken) {
        let mut seen = Seen::nothing();
        loop {
            if self.is_chosen(&members) {
                self.look_at_hold(&mut seen, &stop).await;
            } else {
                seen = Seen::nothing();
            }
            if !self.wait(&stop, LOOK_EVERY).await {
                return;
            }
        }
    }

    async fn look_at_hold(&self, seen: &mut Seen, stop: &CancellationToken) {
        let (rules, now) = (compiled(&self.rules()), late_now());
        let state = match self.spool.place_state(Place::Hold).await {
            Ok(state) => state,
            Err(error) => return tracing::debug!(%error, "HOLD is looked at later"),
        };
        if state.messages == 0 {
            *seen = Seen { rules, at: now, through: state.last_sequence, again: false, ..Seen::nothing() };
            return;
        }
        if seen.is_void(&rules, now) {
            *seen = Seen { rest_until: seen.rest_until, again: false, ..Seen::nothing() };
        }
        (seen.rules, seen.at) = (rules, now);
        if seen.through >= state.last_sequence {
            return;
        }
        let begun = Instant::now();
        match self.look_behind(seen, stop).await {
            Ok(0) => {}
            Ok(freed) => tracing::info!(freed, "left HOLD"),
            Err(error) => {
                tracing::warn!(%error, "HOLD is looked through again");
                seen.again = true;
            }
        }
        seen.rest_until = Instant::now() + begun.elapsed().saturating_mul(REST).max(Duration::from_secs(1));
    }

    /// Looks through what lies behind `seen`, and says how much has left.
    async fn look_behind(&self, seen: &mut Seen, stop: &CancellationToken) -> Result<usize, postrider_nats::ReadError> {
        let mut scan = self.spool.scan_hold(seen.through);
        let mut freed = 0;
        while !stop.is_cancelled() {
            let read = Instant::now();
            let Some(chunk) = scan.next().await? else { break };
            if let Some(last) = chunk.last() {
                seen.through = last.sequence;
            }
            let now = late_now();
            let mut leaving = Vec::new();
            for found in chunk {
                let envelope = found.packet.envelope();
                if seen.rules.keeps(envelope, now).is_some() {
                    seen.next_expiry = seen.next_expiry.into_iter().chain([envelope.expiry]).min();
                } else {
                    leaving.push(found);
                }
            }
            if leaving.is_empty() {
                continue;
            }
            let brought = self.bring(leaving, read, stop).await;
            freed += brought.done;
            seen.again |= brought.left > 0;
            self.until_ready_has_room(stop).await;
        }
        Ok(freed)
    }
}
