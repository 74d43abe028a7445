//! Whether all that a shard's consumer hands out has come to us. The server numbers its deliveries from 1 after a RESET, or after
//! the consumer was made anew. A number that is left out went to somebody else: to the open request of an owner that is dead
//! by now, or into a connection that broke. It would come again after the ack wait only; and to take the shard's records for
//! finished while their mail is still to come would lose it.

/// The deliveries of one consumer, as far as they have come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Deliveries {
    /// It was not made to begin anew by us.
    #[default]
    Unknown,
    /// All before this number have come.
    Before(u64),
    /// Some went elsewhere: only a RESET brings them.
    Broken,
}

impl Deliveries {
    /// A RESET is asked for: what comes now may still be from before.
    pub fn resetting(&mut self) {
        *self = Self::Unknown;
    }

    /// It is done.
    pub fn was_reset(&mut self) {
        if *self == Self::Unknown {
            *self = Self::Before(1);
        }
    }

    /// The delivery of this number has come. Whether one before it is found missing by that.
    pub fn came(&mut self, number: u64) -> bool {
        match *self {
            // The first ever: whatever was before counts no more.
            _ if number == 1 => *self = Self::Before(2),
            Self::Before(next) if number == next => *self = Self::Before(number.saturating_add(1)),
            Self::Before(_) => {
                *self = Self::Broken;
                return true;
            }
            Self::Unknown | Self::Broken => {}
        }
        false
    }

    /// Whether every delivery since the RESET has come, up to the last that has, and one at least has: what came while the RESET
    /// was asked for may be of before it, or of after it behind a gap.
    pub fn has_no_gap(&self) -> bool {
        matches!(self, Self::Before(next) if *next > 1)
    }

    /// The server says how many there were, and nothing is on its way to us. Whether all have come; if not, they went elsewhere.
    pub fn has_all(&mut self, delivered: u64) -> bool {
        match *self {
            Self::Before(next) if next == delivered.saturating_add(1) => true,
            Self::Before(_) => {
                *self = Self::Broken;
                false
            }
            Self::Unknown | Self::Broken => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reset() -> Deliveries {
        let mut deliveries = Deliveries::default();
        deliveries.resetting();
        deliveries.was_reset();
        deliveries
    }

    #[test]
    fn what_comes_in_its_order_is_all() {
        let mut deliveries = reset();
        assert!(!(1..=5).any(|number| deliveries.came(number)));
        assert!(deliveries.has_no_gap() && deliveries.has_all(5));
    }

    #[test]
    fn what_went_to_another_is_missed_once_until_the_next_reset() {
        let mut deliveries = reset();
        assert!(deliveries.came(3));
        assert!(!deliveries.came(4) && !deliveries.has_no_gap());
        deliveries.resetting();
        // From before.
        assert!(!deliveries.came(5));
        deliveries.was_reset();
        assert!(!deliveries.came(1) && deliveries.has_no_gap());
    }

    #[test]
    fn the_last_ones_are_missed_when_the_server_counts_them() {
        let mut deliveries = reset();
        assert!(deliveries.has_all(0));
        deliveries.came(1);
        assert!(!deliveries.has_all(3) && !deliveries.has_no_gap());
    }

    #[test]
    fn mail_that_comes_before_the_answer_to_the_reset_counts() {
        let mut deliveries = Deliveries::default();
        deliveries.resetting();
        assert!(!deliveries.came(17) && !deliveries.came(1) && !deliveries.came(2));
        deliveries.was_reset();
        assert!(!deliveries.came(3) && deliveries.has_all(3));
    }

    #[test]
    fn what_came_while_a_reset_was_asked_for_does_not_show_that_nothing_is_missing() {
        let mut deliveries = reset();
        assert!(deliveries.came(2));
        deliveries.resetting();
        // Of before, and of after it: the first and the third have gone elsewhere again.
        assert!(!deliveries.came(4) && !deliveries.came(2) && !deliveries.came(4));
        deliveries.was_reset();
        assert!(!deliveries.has_no_gap());
        assert!(!deliveries.has_all(5) && !deliveries.has_no_gap());
    }

    #[test]
    fn a_consumer_that_was_made_anew_begins_with_all_there_is() {
        let mut deliveries = reset();
        (1..9).for_each(|number| assert!(!deliveries.came(number)));
        assert!(!deliveries.came(1) && !deliveries.came(2) && deliveries.has_all(2));
    }

    #[test]
    fn nothing_is_known_of_a_consumer_that_was_not_reset() {
        let mut deliveries = Deliveries::default();
        assert!(!deliveries.came(7) && !deliveries.came(9));
        assert!(!deliveries.has_no_gap() && !deliveries.has_all(9));
    }
}
