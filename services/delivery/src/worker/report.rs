//! What conversations report, told to the dispatcher.

use postrider_dispatch::dispatcher::{Conversation, Fact};

use super::{Worker, act};
use crate::conversation::Report;

impl Worker {
    pub(super) fn report(&mut self, conversation: Conversation, report: Report) {
        match report {
            Report::Ready => self.fact(Fact::Ready(conversation)),
            Report::Attempted { ticket, results, attempt } => {
                if let Some(talk) = self.talks.get_mut(&conversation) {
                    talk.carries = None;
                }
                if let Some(held) = self.held.get_mut(&ticket) {
                    held.attempt = Some(Box::new(attempt));
                }
                self.fact(Fact::Attempted { ticket, conversation: Some(conversation), results });
            }
            Report::Prolong(ticket) => {
                if let Some(held) = self.held.get(&ticket) {
                    tokio::spawn(held.handle.in_progress());
                }
            }
            Report::Damaged(ticket) => {
                if let Some(talk) = self.talks.get_mut(&conversation) {
                    talk.carries = None;
                }
                self.fact(Fact::BodyMissing { ticket });
            }
            Report::Unreached { failure, permanent, attempt } => {
                let Some(ticket) = self.talks.get(&conversation).map(|talk| talk.opened_for) else { return };
                let Some(held) = self.held.get_mut(&ticket) else { return };
                self.tools.metrics.conversation_failed(act::scope(failure.scope), &held.site);
                // Another conversation may have it by now: then this one says nothing about it.
                if self.talks.values().any(|talk| talk.carries == Some(ticket)) {
                    return;
                }
                held.attempt = Some(Box::new(attempt));
                // What is so for good has its reply.
                if let (true, Some(reply)) = (permanent, failure.reply) {
                    self.fact(Fact::Unresolvable { ticket, permanent, reply });
                }
            }
            Report::Ended { failure } => {
                self.talks.remove(&conversation);
                self.tools.metrics.conversations.set(i64::try_from(self.talks.len()).unwrap_or(i64::MAX));
                self.fact(Fact::ConversationEnded { conversation, failure });
            }
        }
    }
}
