//! Letting go of a shard in good order, so that its next owner finds nothing under way and goes on in under a second.

use postrider_model::ShardId;

use super::TakeoverFailure;
use crate::ownership::Lease;

/// The next thing to do about a shard that is being released.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReleaseStep {
    /// Let no pull of it be open.
    StopPulling,
    /// NAK every envelope that has not begun.
    HandBack,
    /// Wait until every conversation of it has ended and its settle is finished.
    Drain,
    /// Write this lease by compare-and-swap over ours; `settled_through` is to be the tracker's last word.
    WriteReleased(Lease),
    /// It is another's now.
    Released,
    /// It was taken from us, or the fence closed: forget it. The next owner will RESET.
    GiveUp,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Stopping,
    HandingBack,
    Draining,
    Writing,
    Released,
    GivenUp,
}

/// The machine of a shard that is being released.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Release {
    shard: ShardId,
    lease: Lease,
    state: State,
}

impl Release {
    /// Begins, with the lease that is ours.
    pub fn new(shard: ShardId, lease: Lease) -> Self {
        Self { shard, lease, state: State::Stopping }
    }

    /// The shard.
    pub fn shard(&self) -> ShardId {
        self.shard
    }

    /// What [`crate::settle::SettledThrough::through`] says after the drain.
    pub fn settled_through(&mut self, through: u64) {
        self.lease.settled_through = self.lease.settled_through.max(through);
    }

    /// The next thing to do.
    pub fn step(&self) -> ReleaseStep {
        match self.state {
            State::Stopping => ReleaseStep::StopPulling,
            State::HandingBack => ReleaseStep::HandBack,
            State::Draining => ReleaseStep::Drain,
            State::Writing => ReleaseStep::WriteReleased(Lease { released: true, ..self.lease.clone() }),
            State::Released => ReleaseStep::Released,
            State::GivenUp => ReleaseStep::GiveUp,
        }
    }

    /// The present step is done.
    pub fn done(&mut self) {
        self.state = match self.state {
            State::Stopping => State::HandingBack,
            State::HandingBack => State::Draining,
            State::Draining => State::Writing,
            State::Writing | State::Released => State::Released,
            State::GivenUp => State::GivenUp,
        };
    }

    /// The present step failed. Without an answer it is done again: writing the same lease twice is harmless, and if
    /// another has claimed it in between, the second write loses the race.
    pub fn failed(&mut self, failure: TakeoverFailure) {
        match failure {
            TakeoverFailure::Unavailable => {}
            TakeoverFailure::LeaseLost | TakeoverFailure::Fenced | TakeoverFailure::ConsumerGone => {
                self.state = State::GivenUp;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lease() -> Lease {
        Lease { owner: "me".parse().unwrap(), epoch: 7, released: false, settled_through: 41 }
    }

    fn begin() -> Release {
        Release::new("b03".parse().unwrap(), lease())
    }

    #[test]
    fn a_shard_is_released_only_when_nothing_of_it_is_left() {
        let mut release = begin();
        let mut steps = Vec::new();
        while release.step() != ReleaseStep::Released {
            if release.step() == ReleaseStep::Drain {
                release.settled_through(99);
            }
            steps.push(release.step());
            release.done();
        }
        let written = Lease { released: true, settled_through: 99, ..lease() };
        assert_eq!(
            steps,
            [ReleaseStep::StopPulling, ReleaseStep::HandBack, ReleaseStep::Drain, ReleaseStep::WriteReleased(written)]
        );
    }

    #[test]
    fn a_step_without_an_answer_is_done_again() {
        let mut release = begin();
        for _ in 0..4 {
            let step = release.step();
            release.failed(TakeoverFailure::Unavailable);
            assert_eq!(release.step(), step);
            release.done();
        }
        assert_eq!(release.step(), ReleaseStep::Released);
    }

    #[test]
    fn a_shard_that_was_taken_meanwhile_is_given_up() {
        for failure in [TakeoverFailure::LeaseLost, TakeoverFailure::Fenced, TakeoverFailure::ConsumerGone] {
            let mut release = begin();
            release.done();
            release.failed(failure);
            assert_eq!(release.step(), ReleaseStep::GiveUp);
            release.done();
            assert_eq!(release.step(), ReleaseStep::GiveUp);
        }
    }
}
