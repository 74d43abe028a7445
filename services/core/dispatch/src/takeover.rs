//! Taking a shard, and letting go of it: two machines per shard. They order the steps and say where to go on after a
//! failure; the fence and the lease are looked at by the shell before each step.

mod deliveries;
pub use deliveries::Deliveries;

mod release;
pub use release::{Release, ReleaseStep};

use postrider_model::{MemberId, ShardId};

use crate::ownership::Lease;

/// The next thing to do about a shard that is being taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TakeoverStep {
    /// Write this lease by compare-and-swap over the one that was seen.
    Claim(Lease),
    /// RESET the shard's consumer: all unacked work of the last owner comes again. After a release in good order there is
    /// none as far as the last owner knew; but a hand-back that got lost, or that met a consumer made anew by a restarted
    /// server, would block its envelope for the ack wait of 20 minutes, and to RESET costs one request.
    Reset,
    /// Read the shard's EVENTS from this sequence on into the done-set.
    Replay {
        /// The first sequence.
        from: u64,
    },
    /// The shard is ours: pull.
    Pull,
    /// It is not: drop the machine. If it is still to be ours, [`crate::ownership::decide`] says so again.
    GiveUp,
}

/// What went wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TakeoverFailure {
    /// JetStream did not answer, or did not answer well.
    Unavailable,
    /// Somebody else wrote the lease.
    LeaseLost,
    /// The fence closed, or the shard was reported lost.
    Fenced,
    /// The consumer is not as it was left (it was made anew by somebody, or its messages do not fit its state).
    ConsumerGone,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum State {
    Claiming,
    Resetting,
    Replaying,
    Pulling,
    GivenUp,
}

/// The machine of a shard that is being taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Takeover {
    shard: ShardId,
    lease: Lease,
    state: State,
}

impl Takeover {
    /// Begins, with the lease as it was last seen.
    pub fn new(shard: ShardId, previous: Option<&Lease>, me: &MemberId) -> Self {
        Self { shard, lease: Lease::claim(previous, me), state: State::Claiming }
    }

    /// The shard.
    pub fn shard(&self) -> ShardId {
        self.shard
    }

    /// The lease that is claimed.
    pub fn lease(&self) -> &Lease {
        &self.lease
    }

    /// The next thing to do.
    pub fn step(&self) -> TakeoverStep {
        match self.state {
            State::Claiming => TakeoverStep::Claim(self.lease.clone()),
            State::Resetting => TakeoverStep::Reset,
            State::Replaying => TakeoverStep::Replay { from: self.lease.settled_through.saturating_add(1) },
            State::Pulling => TakeoverStep::Pull,
            State::GivenUp => TakeoverStep::GiveUp,
        }
    }

    /// The present step is done. Pulling never is.
    pub fn done(&mut self) {
        self.state = match self.state {
            State::Claiming => State::Resetting,
            State::Resetting => State::Replaying,
            State::Replaying | State::Pulling => State::Pulling,
            State::GivenUp => State::GivenUp,
        };
    }

    /// The present step failed.
    pub fn failed(&mut self, failure: TakeoverFailure) {
        self.state = match (failure, &self.state) {
            (TakeoverFailure::LeaseLost | TakeoverFailure::Fenced, _) | (_, State::GivenUp) => State::GivenUp,
            // Whether the lease was written is not known: it is seen in the lease itself, and claimed again as our own.
            (TakeoverFailure::Unavailable | TakeoverFailure::ConsumerGone, State::Claiming) => State::GivenUp,
            // What a half-done replay put into the done-set is the same the second time.
            (TakeoverFailure::Unavailable, State::Resetting) => State::Resetting,
            (TakeoverFailure::Unavailable, State::Replaying) => State::Replaying,
            (TakeoverFailure::Unavailable, State::Pulling) => State::Pulling,
            (TakeoverFailure::ConsumerGone, State::Resetting | State::Replaying | State::Pulling) => State::Resetting,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn me() -> MemberId {
        "me".parse().unwrap()
    }

    fn lease(owner: &str, released: bool) -> Lease {
        Lease { owner: owner.parse().unwrap(), epoch: 6, released, settled_through: 41 }
    }

    fn begin(previous: Option<&Lease>) -> Takeover {
        Takeover::new("b03".parse().unwrap(), previous, &me())
    }

    fn claim() -> TakeoverStep {
        TakeoverStep::Claim(Lease { owner: me(), epoch: 7, released: false, settled_through: 41 })
    }

    #[track_caller]
    fn check(previous: Option<&Lease>, expected: &[TakeoverStep]) {
        let mut takeover = begin(previous);
        let mut steps = vec![takeover.step()];
        while takeover.step() != TakeoverStep::Pull {
            takeover.done();
            steps.push(takeover.step());
        }
        assert_eq!(steps, expected);
    }

    #[test]
    fn the_shard_of_a_dead_owner_is_reset_before_it_is_pulled_from() {
        let steps = [claim(), TakeoverStep::Reset, TakeoverStep::Replay { from: 42 }, TakeoverStep::Pull];
        check(Some(&lease("other", false)), &steps);
        // Our own from a life that ended badly is no better.
        check(Some(&lease("me", false)), &steps);
    }

    #[test]
    fn a_shard_that_was_released_is_reset_too() {
        let steps = [claim(), TakeoverStep::Reset, TakeoverStep::Replay { from: 42 }, TakeoverStep::Pull];
        check(Some(&lease("other", true)), &steps);
        check(Some(&lease("me", true)), &steps);
    }

    #[test]
    fn a_shard_without_a_lease_is_taken_with_care() {
        let first = Lease { owner: me(), epoch: 1, released: false, settled_through: 0 };
        check(
            None,
            &[TakeoverStep::Claim(first), TakeoverStep::Reset, TakeoverStep::Replay { from: 1 }, TakeoverStep::Pull],
        );
    }

    #[test]
    fn a_lost_race_for_the_lease_ends_it() {
        let mut takeover = begin(None);
        takeover.failed(TakeoverFailure::LeaseLost);
        assert_eq!(takeover.step(), TakeoverStep::GiveUp);
        takeover.done();
        assert_eq!(takeover.step(), TakeoverStep::GiveUp);
    }

    #[test]
    fn a_claim_without_an_answer_is_not_repeated_blindly() {
        let mut takeover = begin(None);
        takeover.failed(TakeoverFailure::Unavailable);
        assert_eq!(takeover.step(), TakeoverStep::GiveUp);
    }

    #[test]
    fn a_step_that_got_no_answer_is_done_again() {
        let mut takeover = begin(None);
        for _ in 0..3 {
            takeover.done();
            let step = takeover.step();
            takeover.failed(TakeoverFailure::Unavailable);
            assert_eq!(takeover.step(), step);
        }
        assert_eq!(takeover.step(), TakeoverStep::Pull);
    }

    #[test]
    fn a_consumer_that_is_gone_is_reset_again() {
        let mut takeover = begin(Some(&lease("other", true)));
        takeover.done();
        takeover.done();
        takeover.done();
        assert_eq!(takeover.step(), TakeoverStep::Pull);
        takeover.failed(TakeoverFailure::ConsumerGone);
        assert_eq!(takeover.step(), TakeoverStep::Reset);
        takeover.done();
        assert_eq!(takeover.step(), TakeoverStep::Replay { from: 42 });
    }

    #[test]
    fn a_closed_fence_ends_it_at_any_step() {
        for steps in 0..4 {
            let mut takeover = begin(None);
            (0..steps).for_each(|_| takeover.done());
            takeover.failed(TakeoverFailure::Fenced);
            assert_eq!(takeover.step(), TakeoverStep::GiveUp);
        }
    }
}
