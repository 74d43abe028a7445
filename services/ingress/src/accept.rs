//! A message on its way to JetStream: checked, prepared, cut into parts, durable. `Ok` means that every part is
//! acknowledged (invariant 1 of the design); anything else leaves the message with its sender.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::future::join_all;
use postrider_dispatch::parts::{PartPlan, Place, split_into_parts};
use postrider_dispatch::shard_state::LONGEST_WAIT;
use postrider_message::{Inspection, Protocol, Trace, added_message_id, inspect, prepare};
use postrider_model::{
    Body, Domain, Envelope, EnvelopeState, Mailbox, MessageId, ShardLayout, SiteName, Snapshot, Timestamp,
};
use postrider_nats::{PublishError, Sharing};
use postrider_proto::Packet;
use postrider_runtime::{clock, random};
use postrider_smtp::Submission;

use crate::ingress::Shared;
use crate::policy::{self, Choice, Principal};
use crate::refusal::{Because, Refusal};

/// Clocks of machines that are kept in step differ by less.
const MOST_AHEAD: Duration = Duration::from_secs(2);

/// Under which a message came in.
pub(crate) struct Circumstances<'a> {
    pub(crate) listener: &'a str,
    pub(crate) peer: IpAddr,
    pub(crate) tls: Option<&'a str>,
    pub(crate) snapshot: &'a Snapshot,
    pub(crate) principal: &'a Principal,
}

/// Makes a message durable, or says why not.
pub(crate) async fn accept(
    shared: &Shared,
    circumstances: &Circumstances<'_>,
    submission: Submission,
) -> Result<MessageId, Refusal> {
    let inspection = inspect(&submission.message)
        .map_err(|error| Refusal::new(Because::Malformed, 554, (5, 6, 0), &error.to_string()))?;
    let (choice, from_domain) = judge(shared, circumstances, &inspection)?;
    let now = moment(clock::now(), shared.spool.server_now());
    let id = MessageId::new(now, random::bytes());
    let recipients = without_repeats(&submission.recipients);
    let message = prepared(shared, circumstances, &submission, &inspection, &recipients, id, now);
    let host_name = &shared.config.host_name;
    let places = places(shared, circumstances.snapshot, &id, &recipients).await;
    let plans = split_into_parts(&places, choice.class);
    let draft = Draft {
        id,
        now,
        expiry: now.after(Duration::from_secs(shared.config.expiry_secs)),
        header_message_id: inspection.message_id.clone().unwrap_or_else(|| match inspection.has_message_id {
            true => String::new(),
            false => added_message_id(&id, host_name),
        }),
        from_domain,
        size_bytes: u64::try_from(message.len()).unwrap_or(u64::MAX),
        choice: &choice,
        recipients: &recipients,
        circumstances,
        submission: &submission,
    };
    let size_bytes = message.len();
    let began = Instant::now();
    let under_way = shared.strain.publishing(began);
    let published = publish(shared, &draft, &plans, message).await;
    drop(under_way);
    shared.metrics.published(began.elapsed());
    published.map_err(|error| {
        tracing::debug!(message = %id, %error, "not made durable");
        not_durable(&error)
    })?;
    shared.metrics.accepted(circumstances.listener, choice.class, recipients.len(), size_bytes);
    tracing::debug!(
        message = %id,
        tenant = circumstances.principal.tenant.as_str(),
        class = choice.class.as_str(),
        recipients = recipients.len(),
        parts = plans.len(),
        size_bytes,
        "accepted"
    );
    Ok(id)
}

/// When a message comes in. A clock of ours that was set forth is ahead for days, and ids in the future of the servers' clock
/// are not found: theirs counts where ours is ahead of it by seconds.
fn moment(own: Timestamp, server: Timestamp) -> Timestamp {
    if own.since(server) > MOST_AHEAD { server } else { own }
}

/// What the policy says about the message itself.
fn judge(
    shared: &Shared,
    circumstances: &Circumstances<'_>,
    inspection: &Inspection,
) -> Result<(Choice, Option<Domain>), Refusal> {
    let principal = circumstances.principal;
    policy::circles(inspection.received_count, shared.config.bounds.received_fields)?;
    let from_domain = policy::header_from(circumstances.snapshot, principal, inspection.author())?;
    let asked = &inspection.directives;
    let choice = policy::choose(principal, asked.class.as_deref(), asked.campaign.as_deref(), asked.pool.as_deref())?;
    Ok((choice, from_domain))
}

/// The recipients in order, each once: whoever is named twice gets one copy.
fn without_repeats(recipients: &[Mailbox]) -> Vec<Mailbox> {
    let mut seen = HashSet::with_capacity(recipients.len());
    recipients.iter().filter(|recipient| seen.insert(*recipient)).cloned().collect()
}

fn prepared(
    shared: &Shared,
    circumstances: &Circumstances<'_>,
    submission: &Submission,
    inspection: &Inspection,
    recipients: &[Mailbox],
    id: MessageId,
    now: Timestamp,
) -> Bytes {
    let host_name = &shared.config.host_name;
    let trace = Trace {
        from_hello: &submission.hello,
        peer_address: circumstances.peer,
        by_host: host_name.as_str(),
        protocol: Protocol {
            extended: submission.extended,
            tls: submission.tls,
            authenticated: submission.authenticated.is_some(),
            smtputf8: submission.parameters.smtputf8,
        },
        id,
        tls: circumstances.tls,
        now,
        for_: match recipients {
            [only] => Some(only),
            _ => None,
        },
    };
    prepare(&submission.message, inspection, &trace, host_name)
}

/// Where each recipient's mail goes: looked up for all domains at once. Whatever is not known in time goes by its domain;
/// delivery looks again.
async fn places(shared: &Shared, snapshot: &Snapshot, id: &MessageId, recipients: &[Mailbox]) -> Vec<Place> {
    let patience = Duration::from_millis(shared.config.timeouts.sites_ms);
    let domains: HashSet<&Domain> = recipients.iter().map(Mailbox::domain).collect();
    let found = join_all(domains.into_iter().map(|domain| async move {
        let place = match shared.sites.resolve_within(domain, snapshot, patience).await {
            Some(resolved) => Place {
                slice: ShardLayout::slice_of(id, resolved.slices),
                site: resolved.site,
                exchange: Arc::clone(resolved.plan.exchange_key()),
            },
            None => by_itself(domain),
        };
        (domain, place)
    }));
    let by_domain: HashMap<&Domain, Place> = found.await.into_iter().collect();
    let place_of = |domain: &Domain| by_domain.get(domain).cloned().unwrap_or_else(|| by_itself(domain));
    recipients.iter().map(|recipient| place_of(recipient.domain())).collect()
}

/// Where mail goes whose exchangers are not known in time.
fn by_itself(domain: &Domain) -> Place {
    Place { site: SiteName::from(domain), slice: 0, exchange: domain.as_str().into() }
}

/// What all parts of a message have in common.
struct Draft<'a> {
    id: MessageId,
    now: Timestamp,
    expiry: Timestamp,
    header_message_id: String,
    from_domain: Option<Domain>,
    size_bytes: u64,
    choice: &'a Choice,
    recipients: &'a [Mailbox],
    circumstances: &'a Circumstances<'a>,
    submission: &'a Submission,
}

impl Draft<'_> {
    fn envelope(&self, plan: &PartPlan) -> Envelope {
        let recipients: Vec<Mailbox> =
            plan.recipients.iter().filter_map(|&position| self.recipients.get(position)).cloned().collect();
        Envelope {
            message: self.id,
            part: plan.number,
            tenant: self.circumstances.principal.tenant.clone(),
            class: self.choice.class,
            campaign: self.choice.campaign.clone(),
            pool: self.choice.pool.clone(),
            sender: self.submission.sender.clone(),
            state: EnvelopeState {
                hop: 0,
                attempt: 0,
                site: plan.place.site.clone(),
                slice: plan.place.slice,
                pending: (0..).zip(&recipients).map(|(index, _)| index).collect(),
                last_reply: None,
            },
            recipients,
            arrival: self.now,
            not_before: None,
            expiry: self.expiry,
            header_message_id: self.header_message_id.clone(),
            from_domain: self.from_domain.clone(),
            size_bytes: self.size_bytes,
            eight_bit: self.submission.parameters.eight_bit,
            smtputf8: self.submission.parameters.smtputf8,
            metadata: Vec::new(),
        }
    }
}

/// One part goes to READY, or to a tier; several share a body and go to INTAKE as one record, so that one acknowledgement is for all.
async fn publish(shared: &Shared, draft: &Draft<'_>, plans: &[PartPlan], message: Bytes) -> Result<(), PublishError> {
    let spool = &shared.spool;
    match plans {
        [only] => {
            let envelope = draft.envelope(only);
            // Where it would only wait, a tier is its place; from there it moves on without its body.
            let tier = spool.tier_for(&envelope, LONGEST_WAIT);
            let body = match tier {
                Some(_) => spool.store_body(message, Sharing::Own).await?,
                None => spool.place_body(message, Sharing::Own).await?,
            };
            let packet = Packet::new(envelope, body);
            let published = match tier {
                Some(tier) => {
                    shared.metrics.delayed(packet.envelope().class);
                    spool.copy_to_tier(&packet, tier).await
                }
                None => spool.publish_ready(&packet).await,
            };
            // Only then is it certain that no envelope needs the body.
            if matches!(published, Err(PublishError::Full { .. })) {
                forget_body(shared, packet.body()).await;
            }
            published
        }
        several => {
            let mut body = spool.place_body(message, Sharing::Shared).await?;
            if let Body::Stored(stored) = &mut body {
                stored.parts = u32::try_from(several.len()).unwrap_or_default();
            }
            let packets: Vec<Packet> =
                several.iter().map(|plan| Packet::new(draft.envelope(plan), body.clone())).collect();
            spool.publish_intake(&draft.id, draft.choice.class, &packets).await
        }
    }
}

/// Gives back the room of a body whose envelope was refused. If that fails, it ages out.
async fn forget_body(shared: &Shared, body: &Body) {
    if let Body::Stored(stored) = body
        && let Err(error) = shared.spool.delete_body(stored).await
    {
        tracing::debug!(%error, "a body without envelope stays until it ages out");
    }
}

fn not_durable(error: &PublishError) -> Refusal {
    match error {
        PublishError::Full { .. } => Refusal::new(Because::Full, 452, (4, 3, 1), "The queue is full, try again later"),
        PublishError::Unavailable { .. } => {
            Refusal::new(Because::Unavailable, 451, (4, 3, 0), "The queue is out of reach, try again later")
        }
        PublishError::TooLarge { .. } => {
            let text = "Too many recipients for one message, send it to fewer at a time";
            Refusal::new(Because::TooLarge, 554, (5, 5, 3), text)
        }
    }
}
