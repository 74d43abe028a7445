//! Until when a read may take, given what is being read. Pure: the time is handed in. A command line has one deadline from
//! its first byte to its last, a message has three: for the next block, for the whole, and for the average speed.

use std::time::Duration;

use postrider_smtp::Phase;
use tokio::time::Instant;

use crate::config::TimeoutsConfig;

/// A message may be slow for so long before its average speed is looked at.
const GRACE: Duration = Duration::from_secs(30);

/// The deadlines of one session.
#[derive(Debug)]
pub(super) struct Pace {
    command: Duration,
    block: Duration,
    message: Duration,
    slowest_bytes_per_sec: u64,
    session_end: Instant,
    /// Since when something is awaited, and how much of it has come.
    waiting: Option<(Instant, u64)>,
}

impl Pace {
    pub(super) fn new(config: &TimeoutsConfig, now: Instant) -> Self {
        Self {
            command: Duration::from_secs(config.command_secs),
            block: Duration::from_secs(config.data_block_secs),
            message: Duration::from_secs(config.message_secs),
            slowest_bytes_per_sec: config.slowest_bytes_per_sec.max(1),
            session_end: now + Duration::from_secs(config.session_secs),
            waiting: None,
        }
    }

    /// The machine did something other than waiting: what it awaits next is something new.
    pub(super) fn progressed(&mut self) {
        self.waiting = None;
    }

    /// So many bytes came.
    pub(super) fn received(&mut self, bytes: usize) {
        if let Some((_, so_far)) = &mut self.waiting {
            *so_far = so_far.saturating_add(u64::try_from(bytes).unwrap_or(u64::MAX));
        }
    }

    /// Until when the next read may take.
    pub(super) fn deadline(&mut self, phase: Phase, now: Instant) -> Instant {
        let (since, bytes) = *self.waiting.get_or_insert((now, 0));
        match phase {
            // RFC 5321 section 4.5.3.2.7.
            Phase::Greeting | Phase::Command | Phase::Auth => (since + self.command).min(self.session_end),
            // A message that is on its way may outlive the session's end: it has bounds of its own.
            Phase::Data => {
                let at_slowest = Duration::from_secs(bytes / self.slowest_bytes_per_sec);
                (now + self.block).min(since + self.message).min(since + GRACE + at_slowest)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secs(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn pace(now: Instant) -> Pace {
        Pace::new(&TimeoutsConfig::default(), now)
    }

    #[test]
    fn a_command_that_drips_has_one_deadline() {
        let start = Instant::now();
        let mut pace = pace(start);
        assert_eq!(pace.deadline(Phase::Command, start), start + secs(300));
        pace.received(1);
        assert_eq!(pace.deadline(Phase::Command, start + secs(200)), start + secs(300));
    }

    #[test]
    fn the_next_command_has_a_new_deadline() {
        let start = Instant::now();
        let mut pace = pace(start);
        pace.deadline(Phase::Command, start);
        pace.progressed();
        assert_eq!(pace.deadline(Phase::Command, start + secs(200)), start + secs(500));
    }

    #[test]
    fn a_session_ends_between_messages() {
        let start = Instant::now();
        let mut pace = pace(start);
        assert_eq!(pace.deadline(Phase::Command, start + secs(3_500)), start + secs(3_600));
    }

    #[test]
    fn a_message_that_stops_is_broken_off_soon() {
        let start = Instant::now();
        assert_eq!(pace(start).deadline(Phase::Data, start), start + secs(30));
    }

    #[test]
    fn a_message_that_flows_may_pause_for_the_time_of_a_block() {
        let start = Instant::now();
        let mut pace = pace(start);
        pace.deadline(Phase::Data, start);
        pace.received(1 << 20);
        assert_eq!(pace.deadline(Phase::Data, start + secs(1)), start + secs(181));
    }

    #[test]
    fn a_message_that_drips_is_broken_off_by_its_speed() {
        let start = Instant::now();
        let mut pace = pace(start);
        let mut now = start;
        while pace.deadline(Phase::Data, now) > now {
            pace.received(1);
            now += secs(1);
        }
        assert_eq!(now, start + secs(30));
    }

    #[test]
    fn a_message_ends_however_fast_it_is() {
        let start = Instant::now();
        let mut pace = pace(start);
        pace.deadline(Phase::Data, start);
        pace.received(1 << 30);
        assert_eq!(pace.deadline(Phase::Data, start + secs(1_790)), start + secs(1_800));
    }
}
