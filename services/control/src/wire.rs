//! Small conversions between the model and the API's messages, and the refusals that go with them.

use std::fmt::Display;
use std::str::FromStr;

use postrider_model::{Reply, Timestamp};
use postrider_proto::control::v1 as api;
use prost_types::Timestamp as WireTime;
use tonic::Status;

/// A moment as it travels.
pub(crate) fn time(at: Timestamp) -> WireTime {
    let nanos = i32::try_from(at.as_millis() % 1000).unwrap_or(0) * 1_000_000;
    WireTime { seconds: i64::try_from(at.as_secs()).unwrap_or(i64::MAX), nanos }
}

/// A moment that a caller sent.
pub(crate) fn moment(field: &str, time: Option<&WireTime>) -> Result<Option<Timestamp>, Status> {
    let Some(time) = time else { return Ok(None) };
    let no = || Status::invalid_argument(format!("{field}: a time before 1970 or out of range"));
    let millis = u64::try_from(time.seconds).ok().and_then(|s| s.checked_mul(1000)).ok_or_else(no)?;
    let rest = u64::try_from(time.nanos / 1_000_000).map_err(|_| no())?;
    Ok(Some(Timestamp::from_millis(millis + rest)))
}

/// A reply as it travels.
pub(crate) fn reply(reply: &Reply) -> api::SmtpReply {
    api::SmtpReply {
        code: reply.code.into(),
        enhanced: reply.enhanced.map(|code| code.to_string()).unwrap_or_default(),
        text: reply.text.clone(),
    }
}

/// A field that must hold something.
pub(crate) fn required<T: FromStr<Err: Display>>(field: &str, text: &str) -> Result<T, Status> {
    text.parse().map_err(|why| Status::invalid_argument(format!("{field}: {why}")))
}

/// A field that may be empty.
pub(crate) fn optional<T: FromStr<Err: Display>>(field: &str, text: &str) -> Result<Option<T>, Status> {
    if text.is_empty() { Ok(None) } else { required(field, text).map(Some) }
}

/// A message that must be there.
pub(crate) fn present<T>(field: &str, message: Option<T>) -> Result<T, Status> {
    message.ok_or_else(|| Status::invalid_argument(format!("{field} is missing")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_come_back_to_the_millisecond() {
        let at = Timestamp::from_millis(1_763_786_400_123);
        assert_eq!(moment("since", Some(&time(at))).unwrap(), Some(at));
        assert!(moment("since", Some(&WireTime { seconds: -1, nanos: 0 })).is_err());
        assert_eq!(moment("since", None).unwrap(), None);
    }
}
