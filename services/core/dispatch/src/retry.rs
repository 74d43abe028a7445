//! When an envelope has its next turn: after a temporary failure by the retry schedule, otherwise in the tier nearest the
//! turn it may expect. Never past its expiry, and never by counting: attempts choose the tier, age alone ends the story.

use std::time::Duration;

use postrider_model::{Tier, TierDelays, Timestamp};

/// Who waits for a site, and not for a mailbox, waits no longer than this: when the site is back, all of it is due within an hour.
const LONGEST_FOR_SITE: Duration = Duration::from_secs(3_600);

/// Dice that roll the same for the same seed (SplitMix64, Steele, Lea and Flood 2014). For jitter, never for secrets.
#[derive(Clone, Debug)]
pub struct Dice(u64);

impl Dice {
    /// Dice from a seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Any number.
    pub fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

/// The two neighbouring tiers that the dice choose from after the given number of attempts.
fn candidates(attempts: u32) -> [Tier; 2] {
    match attempts {
        0 | 1 => [Tier::M1, Tier::M5],
        2 => [Tier::M5, Tier::M15],
        3 => [Tier::M15, Tier::H1],
        _ => [Tier::H1, Tier::H4],
    }
}

fn ends_before(tier: Tier, delays: &TierDelays, now: Timestamp, expiry: Timestamp) -> bool {
    now.after(delays.of(tier)) < expiry
}

/// The tier after a temporary failure: `attempts` counts the one that has just failed. A shorter one than the schedule's
/// if that would end after the expiry; `None` if none ends before it.
pub fn tier_after_attempt(
    attempts: u32,
    now: Timestamp,
    expiry: Timestamp,
    delays: &TierDelays,
    dice: &mut Dice,
) -> Option<Tier> {
    let [short, long] = candidates(attempts);
    let wanted = if dice.roll() & 1 == 0 { short } else { long };
    Tier::ALL.into_iter().rev().find(|&tier| tier <= wanted && ends_before(tier, delays, now, expiry))
}

/// The tier after a failure that was the site's, not the recipient's: the schedule's, but none that takes longer than an hour, if
/// there is another.
pub fn tier_after_site_failure(
    attempts: u32,
    now: Timestamp,
    expiry: Timestamp,
    delays: &TierDelays,
    dice: &mut Dice,
) -> Option<Tier> {
    let tier = tier_after_attempt(attempts, now, expiry, delays, dice)?;
    let short = |&shorter: &Tier| shorter <= tier && delays.of(shorter) <= LONGEST_FOR_SITE;
    Tier::ALL.into_iter().rev().find(short).or(Some(tier).filter(|_| delays.of(Tier::M1) > LONGEST_FOR_SITE))
}

/// The same tier, or the shortest longer one of at most `longest` that does not end before what was asked for, if that ends before
/// the expiry.
pub fn no_sooner(
    tier: Tier,
    asked: Duration,
    longest: Tier,
    now: Timestamp,
    expiry: Timestamp,
    delays: &TierDelays,
) -> Tier {
    let may = |&other: &Tier| other >= tier && other <= longest && ends_before(other, delays, now, expiry);
    let longer: Vec<Tier> = Tier::ALL.into_iter().filter(may).collect();
    longer.iter().copied().find(|&other| delays.of(other) >= asked).or(longer.last().copied()).unwrap_or(tier)
}

/// The tier whose end is nearest `turn`, among those of at most `longest` that end before the expiry. The shorter of two
/// equally near.
pub fn tier_nearest(
    turn: Timestamp,
    longest: Tier,
    now: Timestamp,
    expiry: Timestamp,
    delays: &TierDelays,
) -> Option<Tier> {
    let wait = turn.since(now);
    Tier::ALL
        .into_iter()
        .filter(|&tier| tier <= longest && ends_before(tier, delays, now, expiry))
        .min_by_key(|&tier| delays.of(tier).abs_diff(wait))
}

/// The longest tier that ends neither after `not_before` nor after the expiry.
pub fn tier_not_after(not_before: Timestamp, now: Timestamp, expiry: Timestamp, delays: &TierDelays) -> Option<Tier> {
    Tier::ALL
        .into_iter()
        .filter(|&tier| now.after(delays.of(tier)) <= not_before && ends_before(tier, delays, now, expiry))
        .max_by_key(|&tier| delays.of(tier))
}

/// Tiers that take no more for now, in the order of [`Tier::ALL`].
pub type FullTiers = [bool; Tier::ALL.len()];

/// `tier`, or if that takes no more the next longer one of at most `longest` that ends before the expiry, or else the next shorter
/// one. `None` if all of them are full. Only for a move that is not recorded yet: what is recorded goes where the record says.
pub fn with_room(
    tier: Tier,
    longest: Tier,
    full: &FullTiers,
    now: Timestamp,
    expiry: Timestamp,
    delays: &TierDelays,
) -> Option<Tier> {
    let longer = Tier::ALL.into_iter().filter(|&other| other >= tier && other <= longest.max(tier));
    let shorter = Tier::ALL.into_iter().rev().filter(|&other| other < tier);
    longer.chain(shorter).find(|&other| !full[other.index()] && ends_before(other, delays, now, expiry))
}

/// How full the tiers are for new mail that lives for `life`: the emptiest counts, since a full one is gone around. Of those up to
/// an hour alone, for overflow goes no further, and without that of a minute: any mail can go there while it lives, and what lies there
/// turns every minute, so it is the room that moves have left when new mail finds none. Mail that lives for less than five minutes has no other.
/// Shares from 0 to 1, in the order of [`Tier::ALL`].
pub fn fullness_for_new(shares: &[f64; Tier::ALL.len()], life: Duration, delays: &TierDelays) -> f64 {
    let lives = |tier: &Tier| delays.of(*tier) < life;
    let emptiest = |tiers: &[Tier]| {
        tiers.iter().filter(|tier| lives(tier)).map(|tier| shares[tier.index()]).min_by(f64::total_cmp)
    };
    emptiest(&[Tier::M5, Tier::M15, Tier::H1]).or_else(|| emptiest(&[Tier::M1])).unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::time::Duration;

    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1_000_000_000);

    fn after_secs(secs: u64) -> Timestamp {
        NOW.after(Duration::from_secs(secs))
    }

    #[track_caller]
    fn check_schedule(attempts: u32, life_secs: u64, tiers: &[Tier]) {
        let mut dice = Dice::new(7);
        let chosen: BTreeSet<Tier> = (0..64)
            .filter_map(|_| tier_after_attempt(attempts, NOW, after_secs(life_secs), &TierDelays::default(), &mut dice))
            .collect();
        assert_eq!(chosen.into_iter().collect::<Vec<_>>(), tiers);
    }

    #[test]
    fn the_schedule_grows_and_rolls_between_neighbours() {
        let four_days = 4 * 86_400;
        check_schedule(1, four_days, &[Tier::M1, Tier::M5]);
        check_schedule(2, four_days, &[Tier::M5, Tier::M15]);
        check_schedule(3, four_days, &[Tier::M15, Tier::H1]);
        check_schedule(4, four_days, &[Tier::H1, Tier::H4]);
        check_schedule(400, four_days, &[Tier::H1, Tier::H4]);
    }

    #[test]
    fn no_tier_ends_after_the_expiry() {
        check_schedule(9, 3_601, &[Tier::H1]);
        check_schedule(9, 3_600, &[Tier::M15]);
        check_schedule(1, 61, &[Tier::M1]);
        check_schedule(1, 60, &[]);
    }

    #[track_caller]
    fn check_room(full: &[Tier], life_secs: u64, expected: Option<Tier>) {
        let mut tiers = FullTiers::default();
        full.iter().for_each(|tier| tiers[tier.index()] = true);
        let found = with_room(Tier::M15, Tier::H1, &tiers, NOW, after_secs(life_secs), &TierDelays::default());
        assert_eq!(found, expected, "{full:?}");
    }

    #[test]
    fn a_full_tier_is_answered_by_the_next_longer_and_then_by_the_next_shorter_one() {
        check_room(&[], 100_000, Some(Tier::M15));
        check_room(&[Tier::M15], 100_000, Some(Tier::H1));
        check_room(&[Tier::M15], 3_000, Some(Tier::M5));
        check_room(&[Tier::M15, Tier::H1], 100_000, Some(Tier::M5));
        check_room(&[Tier::M1, Tier::M5, Tier::M15, Tier::H1], 100_000, None);
    }

    #[track_caller]
    fn check_fullness(shares: [f64; 5], life_secs: u64, expected: f64) {
        let found = fullness_for_new(&shares, Duration::from_secs(life_secs), &TierDelays::default());
        assert!((found - expected).abs() < 1e-9, "{shares:?} {life_secs} s: {found}");
    }

    #[test]
    fn new_mail_is_refused_only_when_every_tier_that_it_can_go_to_is_nearly_full() {
        let four_days = 4 * 86_400;
        check_fullness([0.0, 0.1, 0.2, 0.97, 0.0], four_days, 0.1);
        check_fullness([0.0, 0.97, 0.97, 0.9, 0.0], four_days, 0.9);
        check_fullness([1.0, 0.3, 0.4, 0.5, 1.0], four_days, 0.3);
        check_fullness([0.0, 0.97, 0.9, 0.1, 0.0], 3_600, 0.9);
        check_fullness([0.0, 0.97, 0.1, 0.1, 0.0], 600, 0.97);
        check_fullness([0.7, 0.97, 0.1, 0.1, 0.0], 300, 0.7);
        check_fullness([0.7, 0.97, 0.1, 0.1, 0.0], 60, 0.0);
    }

    #[test]
    fn who_waits_for_a_site_waits_an_hour_at_most() {
        let longest = |attempts, delays: &TierDelays| {
            let mut dice = Dice::new(7);
            let tier = |_| tier_after_site_failure(attempts, NOW, after_secs(400_000), delays, &mut dice);
            (0..64).filter_map(tier).max()
        };
        assert_eq!([1, 2, 3, 4, 400].map(|attempts| longest(attempts, &TierDelays::default())), {
            [Tier::M5, Tier::M15, Tier::H1, Tier::H1, Tier::H1].map(Some)
        });
        let slow = TierDelays::new([60, 300, 900, 7_200, 14_400].map(Duration::from_secs));
        assert_eq!(longest(9, &slow), Some(Tier::M15));
        let all_slow = TierDelays::new([3_601, 3_602, 3_603, 3_604, 3_605].map(Duration::from_secs));
        assert_eq!(longest(1, &all_slow), Some(Tier::M5));
    }

    #[track_caller]
    fn check_nearest(wait_secs: u64, life_secs: u64, tier: Option<Tier>) {
        let found = tier_nearest(after_secs(wait_secs), Tier::H1, NOW, after_secs(life_secs), &TierDelays::default());
        assert_eq!(found, tier, "{wait_secs} s");
    }

    #[test]
    fn overflow_goes_to_the_tier_nearest_its_turn_up_to_an_hour() {
        check_nearest(0, 100_000, Some(Tier::M1));
        check_nearest(120, 100_000, Some(Tier::M1));
        check_nearest(190, 100_000, Some(Tier::M5));
        check_nearest(1_800, 100_000, Some(Tier::M15));
        check_nearest(90_000, 100_000, Some(Tier::H1));
        check_nearest(90_000, 3_600, Some(Tier::M15));
        check_nearest(90_000, 60, None);
    }

    #[test]
    fn not_before_takes_the_longest_tier_that_is_not_too_long() {
        let tier = |wait| tier_not_after(after_secs(wait), NOW, after_secs(1_000_000), &TierDelays::default());
        let found = [59, 60, 299, 300, 3_599, 20_000].map(tier);
        assert_eq!(found, [None, Some(Tier::M1), Some(Tier::M1), Some(Tier::M5), Some(Tier::M15), Some(Tier::H4)]);
    }
}
