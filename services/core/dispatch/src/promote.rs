//! The decisions of a promoter about a tier: sleep, promote, or put back for the rest of the wait. All envelopes of a tier
//! wait equally long, so the head is the next one due. Times are the NATS server's, never a local clock.

use std::collections::BTreeMap;
use std::time::Duration;

use postrider_model::{SiteName, TenantId, Tier, TierDelays, Timestamp};

use crate::retry;
use crate::shard_state::{Credit, CreditLine, Jams, LONGEST_WAIT};

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

/// Envelopes that a promoter pulls at a time.
pub const BATCH: usize = 1_024;

/// How a promoter walks through a tier. Where much was put off at the same moment much comes due at the same moment, more than
/// there is credit for; what is then sent round the tier once more comes due together again, and between two such moments
/// nothing is left to send. So it goes slowly through what goes round once more, and
/// spreads it over the tier's delay, or two minutes of that.
#[derive(Clone, Copy, Debug)]
pub struct Stride {
    most: usize,
}

/// What a promoter has just done with a batch.
#[derive(Clone, Copy, Debug)]
pub struct Walked {
    /// Envelopes of the batch that went into the same tier again.
    pub again: u64,
    /// What lies in the tier for its class, and nobody has taken.
    pub left: u64,
    /// How late the batch was: since when its first was due.
    pub late: Duration,
    /// The tier's delay.
    pub delay: Duration,
    /// Promoters that walk through the tier, this one included.
    pub promoters: usize,
}

impl Default for Stride {
    fn default() -> Self {
        Self { most: BATCH }
    }
}

impl Stride {
    /// The longest pause between two batches.
    const LONGEST_PAUSE: Duration = Duration::from_secs(2);

    /// What waits behind, for whichever site, comes no later than this for it.
    const LATEST: Duration = Duration::from_secs(120);

    /// The smallest batch worth a pull.
    const LEAST: usize = 64;

    /// How many to pull.
    pub fn most(self) -> usize {
        self.most
    }

    /// How long to wait before the next batch. What waits behind comes late by three quarters of the delay at most,
    /// and by two minutes.
    pub fn pause(&mut self, walked: Walked) -> Duration {
        let Walked { again, left, late, delay, promoters } = walked;
        if again == 0 {
            self.most = BATCH;
            return Duration::ZERO;
        }
        // All promoters together are to take the tier's delay for all that lies in it.
        let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX).max(1);
        let promoters = u64::try_from(promoters.max(1)).unwrap_or(u64::MAX);
        let round = millis(delay).saturating_mul(promoters);
        let wanted = (again + left).saturating_mul(millis(Self::LONGEST_PAUSE)) / round;
        let pause = Duration::from_millis(again.saturating_mul(round) / (again + left));
        let pause = pause.min(Self::LONGEST_PAUSE).min((delay * 3 / 4).min(Self::LATEST).saturating_sub(late));
        self.most = match pause {
            Duration::ZERO => BATCH,
            _ => usize::try_from(wanted).unwrap_or(BATCH).clamp(Self::LEAST, BATCH),
        };
        pause
    }
}

/// Where an envelope that is due goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placement {
    /// To READY.
    Ready,
    /// To a tier again, as it is: its turn is far off.
    Tier(Tier),
}

/// Envelopes of one shard that are due in one tier, by site and tenant: what the shard's owner is asked about.
#[derive(Clone, Debug)]
pub struct DueMail<T> {
    tier: Tier,
    lines: BTreeMap<(SiteName, TenantId), Vec<Due<T>>>,
}

#[derive(Clone, Debug)]
struct Due<T> {
    arrival: Timestamp,
    expiry: Timestamp,
    what: T,
}

impl<T> DueMail<T> {
    /// Nothing yet.
    pub fn new(tier: Tier) -> Self {
        Self { tier, lines: BTreeMap::new() }
    }

    /// Adds an envelope.
    pub fn add(&mut self, site: SiteName, tenant: TenantId, arrival: Timestamp, expiry: Timestamp, what: T) {
        self.lines.entry((site, tenant)).or_default().push(Due { arrival, expiry, what });
    }

    /// What to ask the owner.
    pub fn question(&self) -> Vec<CreditLine> {
        let line = |((site, tenant), due): (&(SiteName, TenantId), &Vec<Due<T>>)| CreditLine {
            site: site.clone(),
            tenant: tenant.clone(),
            from: self.tier,
            count: u32::try_from(due.len()).unwrap_or(u32::MAX),
        };
        self.lines.iter().map(line).collect()
    }

    /// Places everything as the owner answered: of each line the oldest go to READY. What cannot wait in any tier until its
    /// expiry goes there too, and a line without an answer.
    pub fn by_credit(self, credits: &[Credit], now: Timestamp, delays: &TierDelays) -> Vec<(T, Placement)> {
        let all = Credit { granted: u32::MAX, turn_in: Duration::ZERO };
        let credits = credits.iter().copied().chain(std::iter::repeat(all));
        let place = |(mut due, credit): (Vec<Due<T>>, Credit)| {
            due.sort_by_key(|due| due.arrival);
            let granted = usize::try_from(credit.granted).unwrap_or(usize::MAX);
            due.into_iter().enumerate().map(move |(position, due)| {
                if position < granted { (due.what, Placement::Ready) } else { due.later(credit.turn_in, now, delays) }
            })
        };
        self.lines.into_values().zip(credits).flat_map(place).collect()
    }

    /// Places everything without an answer, by what is known of the shard: only mail for closed sites waits on.
    pub fn by_state(self, jams: Option<&Jams>, now: Timestamp, delays: &TierDelays) -> Vec<(T, Placement)> {
        let place = |((site, tenant), due): ((SiteName, TenantId), Vec<Due<T>>)| {
            let jam = jams.and_then(|jams| jams.of(&site, &tenant));
            let turn_in = jam.filter(|jam| jam.tenant.is_none() && !jam.probing).map(|jam| jam.turn_in);
            due.into_iter().map(move |due| match turn_in {
                Some(turn_in) => due.later(turn_in, now, delays),
                None => (due.what, Placement::Ready),
            })
        };
        self.lines.into_iter().flat_map(place).collect()
    }
}

impl<T> Due<T> {
    fn later(self, turn_in: Duration, now: Timestamp, delays: &TierDelays) -> (T, Placement) {
        let tier = retry::tier_nearest(now.after(turn_in), LONGEST_WAIT, now, self.expiry, delays);
        (self.what, tier.map_or(Placement::Ready, Placement::Tier))
    }
}

#[cfg(test)]
mod tests {
    use postrider_model::WaitReason;

    use super::*;
    use crate::shard_state::{Jam, ShardState};

    /// Envelopes of tenants and arrivals, numbered, all for one site.
    fn due(mails: &[(&str, u64)]) -> DueMail<usize> {
        let mut due = DueMail::new(Tier::M5);
        for (number, (tenant, arrival)) in mails.iter().enumerate() {
            due.add("google".parse().unwrap(), tenant.parse().unwrap(), at(*arrival), at(1_000_000), number);
        }
        due
    }

    fn credit(granted: u32, secs: u64) -> Credit {
        Credit { granted, turn_in: Duration::from_secs(secs) }
    }

    #[test]
    fn of_each_tenant_the_oldest_come_first_and_the_rest_waits_for_its_turn() {
        let due = due(&[("acme", 30), ("acme", 10), ("other", 5), ("acme", 20)]);
        let lines = due.question();
        let asked: Vec<_> = lines.iter().map(|line| (line.tenant.as_str(), line.count, line.from)).collect();
        assert_eq!(asked, [("acme", 3, Tier::M5), ("other", 1, Tier::M5)]);
        let placed = due.by_credit(&[credit(2, 800), credit(0, 70)], at(1_000), &TierDelays::default());
        let expected = [
            (1, Placement::Ready),
            (3, Placement::Ready),
            (0, Placement::Tier(Tier::M15)),
            (2, Placement::Tier(Tier::M1)),
        ];
        assert_eq!(placed, expected);
    }

    #[test]
    fn what_no_tier_can_hold_until_its_expiry_goes_to_ready() {
        let placed = due(&[("acme", 1)]).by_credit(&[credit(0, 4_000)], at(999_950), &TierDelays::default());
        assert_eq!(placed, [(0, Placement::Ready)]);
    }

    #[test]
    fn without_an_owners_answer_only_mail_for_closed_sites_waits_on() {
        let jam = |tenant: Option<&str>, probing| Jam {
            site: "google".parse().unwrap(),
            tenant: tenant.map(|tenant| tenant.parse().unwrap()),
            reason: WaitReason::SiteClosed,
            turn_in: Duration::from_secs(900),
            probing,
        };
        let place = |jam: Option<Jam>| {
            let jams = jam.map(|jam| Jams::from(ShardState { jams: vec![jam], asks_for_credit: true }));
            due(&[("acme", 1)]).by_state(jams.as_ref(), at(1_000), &TierDelays::default())[0].1
        };
        assert_eq!(place(None), Placement::Ready);
        assert_eq!(place(Some(jam(None, false))), Placement::Tier(Tier::M15));
        assert_eq!(place(Some(jam(None, true))), Placement::Ready);
        assert_eq!(place(Some(jam(Some("acme"), false))), Placement::Ready);
    }

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
    fn what_goes_round_once_more_is_spread_over_the_delay_by_all_promoters() {
        let walked = |again, left, late: u64, promoters| Walked {
            again,
            left,
            late: Duration::from_secs(late),
            delay: DELAY,
            promoters,
        };
        let mut stride = Stride::default();
        assert_eq!((stride.pause(walked(0, 60_000, 0, 1)), stride.most()), (Duration::ZERO, 1_024), "all of it went");
        assert_eq!((stride.pause(walked(1_000, 59_000, 0, 1)), stride.most()), (Duration::from_secs(1), 1_024));
        assert_eq!((stride.pause(walked(100, 5_900, 0, 1)), stride.most()), (Duration::from_secs(1), 200));
        assert_eq!((stride.pause(walked(100, 59_900, 0, 10)), stride.most()), (Duration::from_secs(1), 200));
        assert_eq!((stride.pause(walked(10, 0, 0, 10)), stride.most()), (Duration::from_secs(2), 64));
        assert_eq!(stride.pause(walked(1_000, 59_000, 44, 1)), Duration::from_secs(1));
        assert_eq!(stride.pause(walked(1_000, 59_000, 46, 1)), Duration::ZERO, "others wait behind it");
        let of_an_hour = Walked { delay: DELAY * 60, ..walked(1_000, 59_000, 119, 1) };
        assert_eq!(stride.pause(of_an_hour), Duration::from_secs(1));
        assert_eq!(stride.pause(Walked { late: DELAY * 2, ..of_an_hour }), Duration::ZERO);
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
