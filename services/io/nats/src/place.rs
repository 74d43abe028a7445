//! Where mail lies in JetStream, looked through from end to end by batched direct gets: for counts, for what operators order at
//! once, and for what may leave HOLD. Nothing is ever purged; what leaves is published to READY first and deleted by its sequence
//! then.

use async_nats::jetstream::stream::Stream;
use postrider_model::{Class, RuleFilter, Timestamp, escape_token};
use postrider_proto::Packet;

use crate::body::BodyError;
use crate::events::{ReadError, Reader};
use crate::publish::PublishError;
use crate::spool::Spool;
use crate::subject::{self, StreamName};
use crate::tier::{Depth, LookError};
use crate::waiting::Place;
use thiserror::Error;

/// A clock that is ahead by up to this must not hide a message from who looks for it by the time in its id; of one that is
/// further ahead, what was stored within this time is found.
const SKEW: std::time::Duration = std::time::Duration::from_secs(2 * 3_600);

/// A packet where it lies. Looking at it leases nothing: it may have left meanwhile.
#[derive(Clone, Debug)]
pub struct Found {
    /// The packet.
    pub packet: Packet,
    /// Its sequence in its stream.
    pub sequence: u64,
    /// When the stream took it, by the server's clock.
    pub stored: Timestamp,
    stream: StreamName,
}

/// Looks through a place. Made by [`Spool::scan_place`].
pub struct PlaceScan {
    readers: Vec<(StreamName, Reader)>,
}

/// What a place holds altogether.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PlaceState {
    /// Messages.
    pub messages: u64,
    /// The last sequence that was ever given out; of several streams the largest.
    pub last_sequence: u64,
    /// When the oldest was stored.
    pub oldest: Option<Timestamp>,
}

/// Why something was not brought to READY.
#[derive(Debug, Error)]
pub enum BringError {
    /// It is where it was.
    #[error(transparent)]
    Publish(#[from] PublishError),
    /// It is in READY, and where it was too: its id shows that.
    #[error("it is in READY, and cannot be deleted where it was: {0}")]
    Delete(BodyError),
}

impl Spool {
    /// Looks through a place from its beginning for what a filter may match. The filter narrows what is read as far as
    /// subjects and times go; each packet is still to be held against it. Records of INTAKE are no packets, and passed over.
    pub fn scan_place(&self, place: Place, filter: &RuleFilter) -> PlaceScan {
        let since = filter.message.map(|message| message.timestamp().min(self.server_now()).before(SKEW));
        let reader = |stream: StreamName| {
            let subject = narrow(place, filter);
            let reader = match since {
                Some(since) => Reader::from_time(self, stream, subject, since),
                None => Reader::after(self, stream, subject, 0),
            };
            (stream, reader)
        };
        PlaceScan { readers: self.streams_of(place).into_iter().map(reader).collect() }
    }

    /// The same from what was stored at that time on.
    pub fn scan_place_since(&self, place: Place, filter: &RuleFilter, since: Timestamp) -> PlaceScan {
        let reader = |stream| (stream, Reader::from_time(self, stream, narrow(place, filter), since));
        PlaceScan { readers: self.streams_of(place).into_iter().map(reader).collect() }
    }

    /// Looks through HOLD from behind a sequence on.
    pub fn scan_hold(&self, after: u64) -> PlaceScan {
        let reader = Reader::after(self, StreamName::Hold, subject::ALL_HELD.to_owned(), after);
        PlaceScan { readers: vec![(StreamName::Hold, reader)] }
    }

    /// Publishes a packet of a tier or of HOLD to READY under the id that it has, and then deletes it where it was. A crash
    /// between the two, or a promoter that is at it too, repeats a publish, which the id shows. One that has left
    /// meanwhile is published again: look and bring within a minute.
    ///
    /// # Errors
    /// [`BringError`].
    pub async fn bring_to_ready(&self, found: &Found) -> Result<(), BringError> {
        self.publish_ready(&found.packet).await?;
        self.delete_message(found.stream, found.sequence).await.map_err(BringError::Delete)
    }

    /// What a place holds.
    ///
    /// # Errors
    /// [`LookError`].
    pub async fn place_state(&self, place: Place) -> Result<PlaceState, LookError> {
        let mut all = PlaceState::default();
        for name in self.streams_of(place) {
            let failed = |why: String| LookError { stream: name.to_string(), why };
            let stream: Stream =
                self.context().get_stream(name.to_string()).await.map_err(|e| failed(e.to_string()))?;
            let state = &stream.cached_info().state;
            let millis = u64::try_from(state.first_timestamp.unix_timestamp_nanos() / 1_000_000).unwrap_or(0);
            let oldest = (state.messages > 0).then(|| Timestamp::from_millis(millis));
            all.messages += state.messages;
            all.last_sequence = all.last_sequence.max(state.last_sequence);
            all.oldest = all.oldest.into_iter().chain(oldest).min();
        }
        Ok(all)
    }

    /// How much is suspended, by site, tenant and class. For people and gauges.
    ///
    /// # Errors
    /// [`LookError`].
    pub async fn held_depths(&self) -> Result<Vec<Depth>, LookError> {
        let subjects = self.subjects(StreamName::Hold).await?;
        let depth = |(subject, count): (String, u64)| {
            let (class, site, tenant) = subject::parse_hold(&subject)?;
            Some(Depth { tier: None, class, site, tenant, count })
        };
        Ok(subjects.into_iter().filter_map(depth).collect())
    }

    fn streams_of(&self, place: Place) -> Vec<StreamName> {
        match place {
            Place::Ready => {
                let bulk = (0..self.layout().bulk_streams).map(StreamName::ReadyBulk);
                bulk.chain([StreamName::ReadyTransactional]).collect()
            }
            Place::Tier(tier) => vec![StreamName::Retry(tier)],
            Place::Hold => vec![StreamName::Hold],
            Place::Intake => vec![StreamName::Intake],
            Place::Dead => vec![StreamName::Dead],
        }
    }
}

impl PlaceScan {
    /// Some more packets; `None` at the end. What cannot be read is counted and left where it is: whoever takes it next
    /// deals with it.
    ///
    /// # Errors
    /// [`ReadError`]; the scan may be continued.
    pub async fn next(&mut self) -> Result<Option<Vec<Found>>, ReadError> {
        while let Some((stream, reader)) = self.readers.last_mut() {
            let stream = *stream;
            let chunk = reader.next().await?;
            if chunk.is_empty() {
                self.readers.pop();
                continue;
            }
            let mut found = Vec::with_capacity(chunk.len());
            for stored in chunk {
                match Packet::decode(stored.payload) {
                    Ok(packet) => {
                        found.push(Found { packet, sequence: stored.sequence, stored: stored.stored, stream });
                    }
                    Err(error) => {
                        tracing::debug!(%stream, sequence = stored.sequence, %error, "a scan passes over a record");
                    }
                }
            }
            return Ok(Some(found));
        }
        Ok(None)
    }
}

/// The narrowest subject that covers all that a filter may match.
fn narrow(place: Place, filter: &RuleFilter) -> String {
    let site = filter.site.as_ref().map_or_else(|| "*".to_owned(), |site| escape_token(site.as_str()));
    let tenant = filter.tenant.as_ref().map_or_else(|| "*".to_owned(), |tenant| escape_token(tenant.as_str()));
    let class = filter.class.map_or('*', Class::letter);
    match place {
        Place::Ready => format!("ready.*.{site}.{tenant}"),
        Place::Tier(tier) => format!("retry.{tier}.{class}.*.{site}.{tenant}"),
        Place::Hold => format!("hold.{class}.{tenant}.{site}"),
        Place::Intake => subject::ALL_INTAKE.to_owned(),
        Place::Dead => "dead.>".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use postrider_model::Tier;

    use super::*;

    #[test]
    fn a_filter_narrows_what_is_read() {
        let filter = RuleFilter {
            tenant: Some("acme".parse().unwrap()),
            site: Some("example.net".parse().unwrap()),
            class: Some(Class::Bulk),
            ..RuleFilter::default()
        };
        assert_eq!(narrow(Place::Ready, &filter), "ready.*.example_net.acme");
        assert_eq!(narrow(Place::Tier(Tier::M5), &filter), "retry.5m.b.*.example_net.acme");
        assert_eq!(narrow(Place::Hold, &filter), "hold.b.acme.example_net");
        assert_eq!(narrow(Place::Tier(Tier::M1), &RuleFilter::default()), "retry.1m.*.*.*.*");
    }
}
