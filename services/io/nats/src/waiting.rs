//! Reads everything that waits, in outline: INTAKE, the tiers, HOLD and READY. For counts, never for decisions about mail.
//!
//! The order of the streams is that in which mail moves without a record being written (INTAKE is split into READY, tiers are
//! promoted to READY, HOLD is released): the copy is there before the original goes, so what has left a stream before it was
//! read is found in one that is read later.

use std::fmt;

use async_nats::jetstream::ErrorCode;
use async_nats::jetstream::context::GetStreamErrorKind;
use postrider_model::Tier;
use postrider_proto::Outline;

use crate::compression::decompress;
use crate::events::ReadError;
use crate::events::reader::{Reader, Stored};
use crate::intake;
use crate::spool::Spool;
use crate::subject::StreamName;
use crate::tier::LookError;

/// Where something waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Place {
    /// Accepted, and not cut into parts yet.
    Intake,
    /// In a tier.
    Tier(Tier),
    /// Suspended by an operator.
    Hold,
    /// Its turn.
    Ready,
    /// Among the dead letters: it waits for nothing, but can be put back.
    Dead,
}

impl Place {
    /// Where packets wait, in the order in which they go through.
    pub const OF_PACKETS: [Self; 7] = [
        Self::Ready,
        Self::Tier(Tier::M1),
        Self::Tier(Tier::M5),
        Self::Tier(Tier::M15),
        Self::Tier(Tier::H1),
        Self::Tier(Tier::H4),
        Self::Hold,
    ];
}

/// `intake`, `1m`, ..., `hold`, `ready`, `dead`.
impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Intake => f.pad("intake"),
            Self::Tier(tier) => f.pad(tier.as_str()),
            Self::Hold => f.pad("hold"),
            Self::Ready => f.pad("ready"),
            Self::Dead => f.pad("dead"),
        }
    }
}

/// A packet that waits.
#[derive(Clone, Debug)]
pub struct Waiting {
    /// Where.
    pub place: Place,
    /// The sequence in its stream.
    pub sequence: u64,
    /// Whose it is.
    pub outline: Outline,
}

impl Spool {
    /// Hands everything that waits to `see`, and returns how many records could not be read. What moves meanwhile may come
    /// twice. With `dead`, the dead letters come too.
    ///
    /// # Errors
    /// [`ReadError`]: what was seen is not all.
    pub async fn scan_waiting(&self, dead: bool, mut see: impl FnMut(Waiting)) -> Result<u64, ReadError> {
        let layout = self.layout();
        let mut places = vec![(Place::Intake, StreamName::Intake.to_string())];
        places.extend(Tier::ALL.map(|tier| (Place::Tier(tier), StreamName::Retry(tier).to_string())));
        places.push((Place::Hold, StreamName::Hold.to_string()));
        if dead {
            places.push((Place::Dead, StreamName::Dead.to_string()));
        }
        let bulk = (0..layout.bulk_streams).map(StreamName::ReadyBulk);
        places.extend(bulk.chain([StreamName::ReadyTransactional]).map(|stream| (Place::Ready, stream.to_string())));
        let mut unreadable = 0;
        for (place, stream) in places {
            unreadable += self.scan_stream(place, &stream, &mut see).await?;
        }
        Ok(unreadable)
    }

    async fn scan_stream(&self, place: Place, stream: &str, see: &mut impl FnMut(Waiting)) -> Result<u64, ReadError> {
        let Some(last) = self.end_of(stream).await.map_err(|error| ReadError::new(&error.stream, error.why))? else {
            return Ok(0);
        };
        let mut reader = Reader::of(self, stream, 0);
        let mut unreadable = 0;
        while reader.read_through() < last {
            let chunk = reader.next().await?;
            if chunk.is_empty() {
                break;
            }
            for stored in chunk.into_iter().take_while(|stored| stored.sequence <= last) {
                let sequence = stored.sequence;
                match outlines(place, stored) {
                    Some(found) => found.into_iter().for_each(|outline| see(Waiting { place, sequence, outline })),
                    None => unreadable += 1,
                }
            }
        }
        Ok(unreadable)
    }

    /// The last sequence of a stream; `None` if there is no such stream.
    async fn end_of(&self, stream: &str) -> Result<Option<u64>, LookError> {
        match self.context().get_stream(stream).await {
            Ok(found) => Ok(Some(found.cached_info().state.last_sequence)),
            Err(error) => match error.kind() {
                GetStreamErrorKind::JetStream(why) if why.error_code() == ErrorCode::STREAM_NOT_FOUND => Ok(None),
                other => Err(LookError { stream: stream.to_owned(), why: other.to_string() }),
            },
        }
    }
}

fn outlines(place: Place, stored: Stored) -> Option<Vec<Outline>> {
    if place != Place::Intake {
        return Outline::decode(stored.payload).ok().map(|outline| vec![outline]);
    }
    let encoding = stored.headers.as_ref().and_then(|headers| headers.get(intake::ENCODING));
    let record = match encoding.map(|value| value.as_str()) {
        None => stored.payload,
        Some(intake::ZSTD) => decompress(&stored.payload, intake::LARGEST).ok()?,
        Some(_) => return None,
    };
    Outline::decode_intake(record).ok()
}
