//! A small model of the streams, which may stop at any effect, and what must hold in it at every moment.

use std::collections::{BTreeSet, HashSet};

use postrider_model::{EnvelopeId, EnvelopeState, MessageId, Move};

use crate::settle::BodyState;

/// An envelope in READY or in a tier.
#[derive(Clone, Debug)]
pub(super) struct Copy {
    pub(super) state: EnvelopeState,
    pub(super) body: StoredBody,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum StoredBody {
    Inline,
    At { sequence: u64, shared: bool },
}

impl StoredBody {
    pub(super) fn state(self) -> BodyState {
        match self {
            Self::Inline => BodyState::Inline,
            Self::At { shared, .. } => BodyState::Stored { shared },
        }
    }
}

pub(super) fn id(hop: u32) -> EnvelopeId {
    EnvelopeId { message: MessageId::from_bytes([7; 16]), part: 0, hop }
}

/// A crash: at the effect with this number, before it is stored or before we know that it is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cut {
    pub(super) effect: usize,
    pub(super) stored: bool,
}

pub(super) struct Crashed;

/// JetStream, and what the recipient got.
pub(super) struct World {
    /// Whether a repeated id is still within the deduplication window.
    pub(super) remembers_ids: bool,
    pub(super) ready: Vec<Copy>,
    pub(super) tier: Vec<Copy>,
    pub(super) seen_in_ready: HashSet<EnvelopeId>,
    pub(super) seen_in_tier: HashSet<EnvelopeId>,
    pub(super) events: Vec<(u64, EnvelopeId, Move)>,
    pub(super) bodies: BTreeSet<u64>,
    pub(super) written_bodies: u64,
    pub(super) dead_letters: usize,
    /// What the lease says.
    pub(super) settled_through: u64,
    pub(super) conversations: usize,
    pub(super) effects: usize,
    pub(super) cut: Option<Cut>,
}

impl World {
    pub(super) fn new(body: StoredBody, remembers_ids: bool) -> Self {
        let state = EnvelopeState {
            hop: 0,
            attempt: 0,
            site: "example.net".parse().unwrap(),
            slice: 0,
            pending: vec![0],
            last_reply: None,
        };
        Self {
            remembers_ids,
            ready: vec![Copy { state, body }],
            tier: Vec::new(),
            seen_in_ready: HashSet::from([id(0)]),
            seen_in_tier: HashSet::new(),
            events: Vec::new(),
            bodies: BTreeSet::from([1]),
            written_bodies: 1,
            dead_letters: 0,
            settled_through: 0,
            conversations: 0,
            effects: 0,
            cut: None,
        }
    }

    /// Lets one effect happen, unless this is where the crash is.
    pub(super) fn effect(&mut self, store: impl FnOnce(&mut Self)) -> Result<(), Crashed> {
        let cut = self.cut.filter(|cut| cut.effect == self.effects);
        self.effects += 1;
        if cut.is_none_or(|cut| cut.stored) {
            store(self);
        }
        self.check();
        if cut.is_some() { Err(Crashed) } else { Ok(()) }
    }

    /// What holds at every moment.
    pub(super) fn check(&self) {
        let living = self.ready.iter().chain(&self.tier);
        let ended = self.events.iter().any(|(_, _, next)| matches!(next, Move::Finished | Move::Dead { .. }));
        assert!(ended || living.clone().count() > 0, "lost");
        if self.remembers_ids {
            // What is in a tier and was promoted already is acked next; nobody reads its body there.
            let promoted = |copy: &&Copy| self.seen_in_ready.contains(&id(copy.state.hop));
            for copy in self.ready.iter().chain(self.tier.iter().filter(|copy| !promoted(copy))) {
                if let StoredBody::At { sequence, .. } = copy.body {
                    assert!(self.bodies.contains(&sequence), "a body went while hop {} refers to it", copy.state.hop);
                }
            }
        }
    }

    pub(super) fn publish_ready(&mut self, copy: Copy) {
        if self.seen_in_ready.insert(id(copy.state.hop)) || !self.remembers_ids {
            self.ready.push(copy);
        }
    }

    pub(super) fn publish_tier(&mut self, copy: Copy) {
        if self.seen_in_tier.insert(id(copy.state.hop)) || !self.remembers_ids {
            self.tier.push(copy);
        }
    }

    /// A promoter: copies to READY under the same id, then acks.
    pub(super) fn promote(&mut self) -> Result<(), Crashed> {
        while let Some(copy) = self.tier.first().cloned() {
            self.effect(|world| world.publish_ready(copy))?;
            self.effect(|world| drop(world.tier.remove(0)))?;
        }
        Ok(())
    }

    pub(super) fn lives(&self) -> bool {
        !self.ready.is_empty() || !self.tier.is_empty()
    }
}
