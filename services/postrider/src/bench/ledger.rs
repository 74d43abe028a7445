//! What the load and the sink know of one run: when each message was accepted and when it arrived, by one clock. Every message
//! has a number, which travels in the local part of its recipient (`r17@...`; `w17@...` to warm up).

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// The times of one run.
pub struct Ledger {
    began: Instant,
    // Nanoseconds since `began`, plus one; 0: not yet.
    accepted: Vec<AtomicU64>,
    answered_within: Vec<AtomicU64>,
    arrived: Vec<AtomicU64>,
    counts: Counts,
}

#[derive(Default)]
struct Counts {
    arrived: AtomicUsize,
    warm: AtomicUsize,
    repeats: AtomicUsize,
    foreign: AtomicUsize,
    signed: AtomicUsize,
    encrypted: AtomicUsize,
}

/// The number of a message, read from a recipient.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    /// It counts.
    Counted(usize),
    /// It only warms up.
    Warm,
    /// Nobody here sent it.
    Foreign,
}

impl Mark {
    /// Reads the address in `RCPT TO:<r17@dest.example>`.
    pub fn of_command(line: &[u8]) -> Self {
        let Some(at) = memchr::memchr(b'<', line) else { return Self::Foreign };
        match line.get(at + 1..) {
            Some([b'w', ..]) => Self::Warm,
            Some([b'r', rest @ ..]) => {
                let digits = rest.iter().take_while(|byte| byte.is_ascii_digit());
                let number =
                    digits.fold(0usize, |sum, byte| sum.wrapping_mul(10).wrapping_add(usize::from(byte - b'0')));
                Self::Counted(number)
            }
            Some(_) | None => Self::Foreign,
        }
    }
}

impl Ledger {
    /// For `messages` messages, from now on.
    pub fn new(messages: usize) -> Self {
        let empty = || std::iter::repeat_with(AtomicU64::default).take(messages).collect();
        Self {
            began: Instant::now(),
            accepted: empty(),
            answered_within: empty(),
            arrived: empty(),
            counts: Counts::default(),
        }
    }

    /// How many messages the run has.
    pub fn messages(&self) -> usize {
        self.accepted.len()
    }

    fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// The `250` for message `number` was read; its content had been written at `sent`.
    pub fn accept(&self, number: usize, sent: Instant) {
        if let (Some(at), Some(within)) = (self.accepted.get(number), self.answered_within.get(number)) {
            at.store(self.now() + 1, Ordering::Relaxed);
            within.store(u64::try_from(sent.elapsed().as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
        }
    }

    /// The sink has read a message to its end.
    pub fn arrive(&self, mark: Mark) {
        match mark {
            Mark::Warm => self.counts.warm.fetch_add(1, Ordering::Relaxed),
            Mark::Foreign => self.counts.foreign.fetch_add(1, Ordering::Relaxed),
            Mark::Counted(number) => match self.arrived.get(number) {
                None => self.counts.foreign.fetch_add(1, Ordering::Relaxed),
                Some(at) => match at.compare_exchange(0, self.now() + 1, Ordering::Relaxed, Ordering::Relaxed) {
                    Ok(_) => self.counts.arrived.fetch_add(1, Ordering::Relaxed),
                    Err(_) => self.counts.repeats.fetch_add(1, Ordering::Relaxed),
                },
            },
        };
    }

    /// What was seen of a message to warm up: whether it was signed, and came by TLS.
    pub fn note(&self, signed: bool, encrypted: bool) {
        self.counts.signed.fetch_add(usize::from(signed), Ordering::Relaxed);
        self.counts.encrypted.fetch_add(usize::from(encrypted), Ordering::Relaxed);
    }

    /// How many of those were signed, and how many came by TLS.
    pub fn noted(&self) -> (usize, usize) {
        (self.counts.signed.load(Ordering::Relaxed), self.counts.encrypted.load(Ordering::Relaxed))
    }

    /// Different messages that arrived.
    pub fn arrived(&self) -> usize {
        self.counts.arrived.load(Ordering::Relaxed)
    }

    /// Messages to warm up that arrived.
    pub fn warm(&self) -> usize {
        self.counts.warm.load(Ordering::Relaxed)
    }

    /// Messages that arrived and were never sent.
    pub fn foreign(&self) -> usize {
        self.counts.foreign.load(Ordering::Relaxed)
    }

    /// Messages that arrived again.
    pub fn repeats(&self) -> usize {
        self.counts.repeats.load(Ordering::Relaxed)
    }

    /// When the last one was accepted, and when the last one arrived, since the ledger began.
    pub fn last(&self) -> (Duration, Duration) {
        let last = |times: &[AtomicU64]| {
            let nanos = times.iter().map(|at| at.load(Ordering::Relaxed)).max().unwrap_or(0);
            Duration::from_nanos(nanos.saturating_sub(1))
        };
        (last(&self.accepted), last(&self.arrived))
    }

    /// How long each message took from the end of its data to its `250`.
    pub fn answers(&self) -> Vec<Duration> {
        self.answered_within
            .iter()
            .map(|within| within.load(Ordering::Relaxed))
            .filter(|nanos| *nanos > 0)
            .map(Duration::from_nanos)
            .collect()
    }

    /// How long each message took from its `250` to the end of data at the sink. One that was there before the `250` was
    /// read took no time.
    pub fn latencies(&self) -> Vec<Duration> {
        let both = self.accepted.iter().zip(&self.arrived);
        both.map(|(from, to)| (from.load(Ordering::Relaxed), to.load(Ordering::Relaxed)))
            .filter(|(from, to)| *from > 0 && *to > 0)
            .map(|(from, to)| Duration::from_nanos(to.saturating_sub(from)))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_travels_in_the_recipient() {
        assert_eq!(Mark::of_command(b"RCPT TO:<r17@dest.example> NOTIFY=NEVER\r\n"), Mark::Counted(17));
        assert_eq!(Mark::of_command(b"RCPT TO:<w17@dest.example>\r\n"), Mark::Warm);
        assert_eq!(Mark::of_command(b"RCPT TO:<postmaster@dest.example>\r\n"), Mark::Foreign);
        assert_eq!(Mark::of_command(b"RCPT TO:\r\n"), Mark::Foreign);
    }

    #[test]
    fn a_message_counts_once_however_often_it_comes() {
        let ledger = Ledger::new(2);
        ledger.accept(1, Instant::now());
        for mark in [Mark::Counted(1), Mark::Counted(1), Mark::Warm, Mark::Counted(2)] {
            ledger.arrive(mark);
        }
        assert_eq!((ledger.arrived(), ledger.repeats(), ledger.warm(), ledger.foreign()), (1, 1, 1, 1));
        assert_eq!(ledger.latencies().len(), 1);
    }
}
