//! The decisions of a promoter about a tier: sleep, promote, or put back for the rest of the wait. All envelopes of a tier
//! wait equally long, so the head is the next one due. Times are the NATS server's, never a local clock.

use std::time::Duration;

use postrider_model::Timestamp;

/// The longest a promoter sleeps before it looks at the head again.
pub const LONGEST_SLEEP: Duration = Duration::from_secs(5);

/// The shortest wait that a message is put back for: less would only come straight back.
pub const SHORTEST_DELAY: Duration = Duration::from_millis(10);

/// What to do about a tier, judged by its head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeadDecision {
    /// Nothing is due: look again at this moment (of the server's time), at most [`LONGEST_SLEEP`] away.
    Sleep {
        /// When to look again.
        until: Timestamp,
    },
    /// The head is due: pull a batch.
    Promote,
}

/// What to do with one message of a pulled batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BatchDecision {
    /// Publish it to READY with the same id, then ack it.
    Promote,
    /// Not due: NAK it with this delay.
    PutBack {
        /// How long until it is due.
        delay: Duration,
    },
}

/// When a message that was stored at `stored` is due.
pub fn due_at(stored: Timestamp, tier_delay: Duration) -> Timestamp {
    stored.after(tier_delay)
}

/// Judges a tier by the stream timestamp of its head; `None` is an empty tier.
pub fn judge_head(head: Option<Timestamp>, tier_delay: Duration, server_now: Timestamp) -> HeadDecision {
    let latest = server_now.after(LONGEST_SLEEP);
    match head.map(|stored| due_at(stored, tier_delay)) {
        Some(due) if due <= server_now => HeadDecision::Promote,
        Some(due) => HeadDecision::Sleep { until: due.min(latest) },
        None => HeadDecision::Sleep { until: latest },
    }
}

/// Judges one message of a pulled batch by its stream timestamp.
pub fn judge_pulled(stored: Timestamp, tier_delay: Duration, server_now: Timestamp) -> BatchDecision {
    let due = due_at(stored, tier_delay);
    if due <= server_now {
        BatchDecision::Promote
    } else {
        BatchDecision::PutBack { delay: due.since(server_now).max(SHORTEST_DELAY) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DELAY: Duration = Duration::from_secs(60);

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_millis(seconds * 1000)
    }

    #[test]
    fn a_head_that_is_due_is_promoted() {
        assert_eq!(judge_head(Some(at(100)), DELAY, at(160)), HeadDecision::Promote);
        assert_eq!(judge_head(Some(at(100)), DELAY, at(1000)), HeadDecision::Promote);
    }

    #[test]
    fn the_promoter_sleeps_until_the_head_is_due() {
        assert_eq!(judge_head(Some(at(100)), DELAY, at(157)), HeadDecision::Sleep { until: at(160) });
    }

    #[test]
    fn the_promoter_never_sleeps_longer_than_five_seconds() {
        assert_eq!(judge_head(Some(at(100)), DELAY, at(101)), HeadDecision::Sleep { until: at(106) });
        assert_eq!(judge_head(None, DELAY, at(101)), HeadDecision::Sleep { until: at(106) });
    }

    #[test]
    fn the_part_of_a_batch_that_is_not_due_is_put_back_for_the_rest_of_its_wait() {
        assert_eq!(judge_pulled(at(100), DELAY, at(160)), BatchDecision::Promote);
        assert_eq!(judge_pulled(at(103), DELAY, at(160)), BatchDecision::PutBack { delay: Duration::from_secs(3) });
    }

    #[test]
    fn a_message_is_never_put_back_for_no_time_at_all() {
        let stored = Timestamp::from_millis(100_001);
        assert_eq!(judge_pulled(stored, DELAY, at(160)), BatchDecision::PutBack { delay: SHORTEST_DELAY });
    }

    #[test]
    fn a_message_stored_in_the_servers_future_waits_longer() {
        assert_eq!(judge_pulled(at(170), DELAY, at(160)), BatchDecision::PutBack { delay: Duration::from_secs(70) });
    }
}
