//! What is written down about one stay of an envelope in a shard: that it was accepted, how it moved, what its turn came to. And
//! whether it stays at all, now that its exchangers are known.

use postrider_model::{
    Attempt, Body, Envelope, Mailbox, Move, Outcome, RecipientOutcome, Record, Reply, ShardId, ShardLayout, SiteName,
    Timestamp,
};

use crate::dispatcher::Plan;

/// Moves between shards that a part may make for each of its attempts: a part that two processes would push to and fro is
/// sent from where it is.
const MOVES_PER_ATTEMPT: u32 = 8;

/// An envelope in a shard.
#[derive(Clone, Copy, Debug)]
pub struct Stay<'a> {
    /// The envelope.
    pub envelope: &'a Envelope,
    /// Where its body is.
    pub body: &'a Body,
    /// The shard it was pulled from.
    pub shard: ShardId,
}

impl Stay<'_> {
    /// The move to another shard, if it belongs there: its exchangers were just looked up, and are those of this site, which
    /// is cut into so many slices.
    pub fn elsewhere(&self, site: &SiteName, slices: u16, layout: &ShardLayout) -> Option<Move> {
        let slice = ShardLayout::slice_of(&self.envelope.message, slices);
        let belongs = layout.shard_of(self.envelope.class, site, slice);
        let state = &self.envelope.state;
        let tired = state.hop > MOVES_PER_ATTEMPT * (state.attempt + 1);
        (belongs != self.shard && !tired).then(|| Move::Site { site: site.clone(), slice })
    }

    /// The record of acceptance: for whoever first takes hop 0.
    pub fn accepted(&self) -> Record {
        let outcomes = self.pending(Outcome::Accepted);
        Record { outcomes, ..self.record(self.envelope.arrival) }
    }

    /// The record of a dead letter that an operator has put back.
    pub fn requeued(&self, now: Timestamp) -> Record {
        let outcomes = self.pending(Outcome::Requeued);
        Record { outcomes, ..self.record(now) }
    }

    /// The record of a move that comes before any turn.
    pub fn moved(&self, next: Move, now: Timestamp) -> Record {
        let outcomes = self.pending(Outcome::Moved);
        Record { outcomes, ..self.ended(next, now) }
    }

    /// The record of a turn that ends as planned, at a site; with the last conversation, numbered here, if that was an attempt.
    pub fn turned(&self, site: &SiteName, plan: &Plan, last: Option<&Attempt>, now: Timestamp) -> Record {
        let outcome = |(index, outcome, reply): &(u32, Outcome, Option<Reply>)| {
            let recipient = self.envelope.recipients.get(usize::try_from(*index).ok()?)?;
            Some(recipient_outcome(*index, recipient, *outcome, reply.clone()))
        };
        let number = self.envelope.state.attempt + 1;
        Record {
            site: site.clone(),
            // An attempt that was put back is none: the record of a move that follows would show it under the number of the one
            // before.
            attempt: last.filter(|_| plan.attempted).map(|last| Attempt { number, ..last.clone() }),
            outcomes: plan.outcomes.iter().filter_map(outcome).collect(),
            ..self.ended(plan.next.clone(), now)
        }
    }

    fn pending(&self, outcome: Outcome) -> Vec<RecipientOutcome> {
        self.envelope.pending().map(|(index, to)| recipient_outcome(index, to, outcome, None)).collect()
    }

    fn ended(&self, next: Move, now: Timestamp) -> Record {
        let body = match (&next, self.body) {
            // Others share it: who counts the ends knows by it when nobody needs it any more.
            (Move::Finished, Body::Stored(stored)) if stored.shared && stored.parts > 0 => Some(stored.clone()),
            _ => None,
        };
        Record { body, next: Some(next), ..self.record(now) }
    }

    fn record(&self, at: Timestamp) -> Record {
        let envelope = self.envelope;
        Record {
            id: envelope.id(),
            at,
            shard: self.shard,
            tenant: envelope.tenant.clone(),
            class: envelope.class,
            campaign: envelope.campaign.clone(),
            pool: envelope.pool.clone(),
            site: envelope.state.site.clone(),
            sender: envelope.sender.clone(),
            header_message_id: envelope.header_message_id.clone(),
            arrival: envelope.arrival,
            size_bytes: envelope.size_bytes,
            metadata: envelope.metadata.clone(),
            attempt: None,
            outcomes: Vec::new(),
            next: None,
            body: None,
        }
    }
}

fn recipient_outcome(index: u32, recipient: &Mailbox, outcome: Outcome, reply: Option<Reply>) -> RecipientOutcome {
    RecipientOutcome { index, recipient: recipient.clone(), outcome, reply }
}

#[cfg(test)]
mod tests;
