//! What exists against what should. Settings that only say how large or old something may grow are not compared here.

use std::fmt::Debug;

use async_nats::jetstream::consumer::{self, pull};
use async_nats::jetstream::stream::Config;

use super::LayoutError;

const STREAM_HINT: &str = "Set it right with the nats command line, or give this cluster a NATS account of its own";
const CONSUMER_HINT: &str = "Delete the consumer; it is made again, and no mail is lost";

struct Comparison {
    what: &'static str,
    name: String,
    hint: &'static str,
}

impl Comparison {
    fn same<T: PartialEq + Debug>(&self, setting: &'static str, is: &T, should: &T) -> Result<(), LayoutError> {
        if is == should {
            return Ok(());
        }
        Err(LayoutError::Differs {
            what: self.what,
            name: self.name.clone(),
            setting,
            is: format!("{is:?}"),
            should: format!("{should:?}"),
            hint: self.hint,
        })
    }
}

pub(super) fn stream(is: &Config, should: &Config) -> Result<(), LayoutError> {
    let compare = Comparison { what: "stream", name: should.name.clone(), hint: STREAM_HINT };
    let sorted = |subjects: &[String]| {
        let mut subjects = subjects.to_vec();
        subjects.sort_unstable();
        subjects
    };
    compare.same("subjects", &sorted(&is.subjects), &sorted(&should.subjects))?;
    compare.same("retention", &is.retention, &should.retention)?;
    compare.same("discard", &is.discard, &should.discard)?;
    compare.same("storage", &is.storage, &should.storage)?;
    compare.same("replicas", &is.num_replicas, &should.num_replicas)?;
    compare.same("max_age", &is.max_age, &should.max_age)?;
    compare.same("max_msgs", &is.max_messages, &should.max_messages)?;
    compare.same("max_msgs_per_subject", &is.max_messages_per_subject, &should.max_messages_per_subject)?;
    compare.same("duplicate_window", &is.duplicate_window, &should.duplicate_window)?;
    compare.same("allow_msg_ttl", &is.allow_message_ttl, &should.allow_message_ttl)?;
    compare.same("subject_delete_marker_ttl", &is.subject_delete_marker_ttl, &should.subject_delete_marker_ttl)?;
    compare.same("sealed", &is.sealed, &false)
}

pub(super) fn consumer(name: &str, is: &consumer::Config, should: &pull::Config) -> Result<(), LayoutError> {
    let compare = Comparison { what: "consumer", name: name.to_owned(), hint: CONSUMER_HINT };
    let filter = match is.filter_subjects.as_slice() {
        [only] => only,
        _ => &is.filter_subject,
    };
    compare.same("filter_subject", filter, &should.filter_subject)?;
    compare.same("deliver_subject", &is.deliver_subject, &None)?;
    compare.same("deliver_policy", &is.deliver_policy, &should.deliver_policy)?;
    compare.same("ack_policy", &is.ack_policy, &should.ack_policy)?;
    compare.same("ack_wait", &is.ack_wait, &should.ack_wait)?;
    compare.same("max_ack_pending", &is.max_ack_pending, &should.max_ack_pending)?;
    compare.same("max_deliver", &is.max_deliver, &should.max_deliver)?;
    compare.same("mem_storage", &is.memory_storage, &should.memory_storage)?;
    compare.same("headers_only", &is.headers_only, &should.headers_only)
}
