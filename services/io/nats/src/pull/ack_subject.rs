//! What the subject says on which a record is to be acknowledged: where the record lies, and how it stands with its consumer.

use postrider_model::Timestamp;

/// What an ack subject says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Details {
    /// Of the stream.
    pub(crate) sequence: u64,
    pub(crate) stored: Timestamp,
    /// The number among the consumer's deliveries.
    pub(super) delivery: u64,
    /// Still to come.
    pub(super) pending: u64,
}

/// From an ack subject in its form of 9 tokens or the later one of 11 and more.
pub(crate) fn ack_details(reply: &str) -> Option<Details> {
    let tokens: Vec<&str> = reply.split('.').collect();
    // $JS.ACK.<stream>.<consumer>.<delivered>.<sequence>.<consumer sequence>.<nanoseconds>.<pending>
    let (sequence, delivery, nanos, pending) = match tokens.len() {
        9 => (tokens[5], tokens[6], tokens[7], tokens[8]),
        11.. => (tokens[7], tokens[8], tokens[9], tokens[10]),
        _ => return None,
    };
    Some(Details {
        sequence: sequence.parse().ok()?,
        stored: Timestamp::from_millis(nanos.parse::<u64>().ok()? / 1_000_000),
        delivery: delivery.parse().ok()?,
        pending: pending.parse().unwrap_or(0),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_of_ack_subjects_are_read() {
        let short = "$JS.ACK.READY_T.ready-t00.1.42.7.1763786400123456789.9";
        let long = "$JS.ACK._.hash.READY_T.ready-t00.1.42.7.1763786400123456789.9";
        let stored = Timestamp::from_millis(1_763_786_400_123);
        let expected = Some(Details { sequence: 42, stored, delivery: 7, pending: 9 });
        assert_eq!(ack_details(short), expected);
        assert_eq!(ack_details(long), expected);
        assert_eq!(ack_details("$JS.ACK.x"), None);
    }
}
