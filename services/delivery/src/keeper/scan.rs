//! Scans of the tiers, for rules that are to take effect at once: what matches is brought to READY before its time, and meets the
//! rule there. A scan that is cut short is begun anew by whoever is chosen next; the rule says when it was done.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use postrider_dispatch::rules::{matches, waits};
use postrider_model::{Envelope, Operation, Rule, RuleAction, Tier, Timestamp};
use postrider_nats::{BucketError, ConfigKey, Expected, Members, Place, ReadError};
use postrider_proto::config::v1 as wire;
use postrider_proto::control::v1::ScanProgress;
use postrider_runtime::clock;
use prost::Message;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{DELIVERY, FRESH, Keeper, LOOK_EVERY};

/// Why a scan came to no end.
enum Cut {
    Read(ReadError),
    /// What matches could not all be brought to READY.
    Left(usize),
    /// We are to stop, or the rule is gone.
    Stopped,
}

/// What a scan has brought to READY. What of that is in a tier again since the scan began has met the rule (a flush of mail for a
/// site that is still closed), and is left there.
struct Met {
    begun: Timestamp,
    parts: HashSet<u64>,
}

impl Met {
    fn key(envelope: &Envelope) -> u64 {
        let mut hasher = DefaultHasher::new();
        (envelope.message, envelope.part).hash(&mut hasher);
        hasher.finish()
    }

    fn add(&mut self, envelope: &Envelope) {
        self.parts.insert(Self::key(envelope));
    }

    fn has(&self, envelope: &Envelope) -> bool {
        self.parts.contains(&Self::key(envelope))
    }
}

impl Keeper {
    pub(super) async fn keep_scanning(mut self, members: watch::Receiver<Arc<Members>>, stop: CancellationToken) {
        loop {
            let wanting = |rule: &Rule| rule.scan && rule.scanned_at.is_none() && rule.in_force(clock::now());
            let rule = self.rules().into_values().find(wanting);
            if let Some(rule) = rule.filter(|_| self.is_chosen(&members) && self.all_obey(&members)) {
                let ended = self.scan(&rule, &stop).await;
                self.progress().retain(|progress| progress.rule != rule.id.as_str());
                match ended {
                    Ok(counts) => self.scanned(rule, counts).await,
                    Err(Cut::Stopped) => {}
                    Err(Cut::Left(left)) => tracing::warn!(rule = %rule.id, left, "the tiers are scanned again"),
                    Err(Cut::Read(error)) => tracing::warn!(rule = %rule.id, %error, "the tiers are scanned again"),
                }
            }
            if !self.wait(&stop, LOOK_EVERY).await {
                return;
            }
        }
    }

    /// Whether every living member has all rules in force that we have: else an owner might send what is brought to it.
    fn all_obey(&self, members: &watch::Receiver<Arc<Members>>) -> bool {
        let revision = self.snapshot.borrow().revision;
        let members = members.borrow();
        let lagging = members.values().find(|member| member.has_role(DELIVERY) && member.config_revision < revision);
        if let Some(lagging) = lagging {
            tracing::debug!(member = %lagging.id, "a scan waits until a member has the rule in force");
        }
        lagging.is_none()
    }

    /// Scans all tiers, and says how many matched in each.
    async fn scan(&self, rule: &Rule, stop: &CancellationToken) -> Result<Vec<(String, u64)>, Cut> {
        // It is about HOLD alone.
        if rule.action == RuleAction::Release {
            return Ok(Vec::new());
        }
        let mut counts = Vec::new();
        let mut met = Met { begun: self.spool.server_now(), parts: HashSet::new() };
        for tier in Tier::ALL {
            let matched = self.scan_tier(rule, tier, &mut met, stop).await?;
            counts.push((tier.to_string(), matched));
        }
        Ok(counts)
    }

    async fn scan_tier(&self, rule: &Rule, tier: Tier, met: &mut Met, stop: &CancellationToken) -> Result<u64, Cut> {
        let delay = self.spool.tier_delays().of(tier);
        let place = Place::Tier(tier);
        self.show(rule, place, 0, 0);
        let (mut looked_at, mut matched, mut left) = (0, 0, 0);
        let mut scan = self.spool.scan_place(place, &rule.filter);
        loop {
            let read = Instant::now();
            let Some(mut chunk) = scan.next().await.map_err(Cut::Read)? else { break };
            let wanted = self.snapshot.borrow().rules.get(&rule.id).is_some_and(|now| now.same_order(rule));
            if stop.is_cancelled() || !wanted {
                return Err(Cut::Stopped);
            }
            // What comes now has met the rule, or meets it in READY.
            let behind = chunk.last().is_some_and(|last| last.stored > met.begun.after(FRESH));
            looked_at += chunk.len();
            chunk.retain(|found| {
                let envelope = found.packet.envelope();
                let has_met = found.stored > met.begun && met.has(envelope);
                !has_met && matches(&rule.filter, envelope) && waits(&rule.filter, envelope, None)
            });
            // What is due soon is a promoter's, and comes by itself: nothing has two movers.
            let soon = self.spool.server_now().after(2 * FRESH);
            let all = chunk.len();
            chunk.retain(|found| found.stored.after(delay) > soon);
            matched += all - chunk.len();
            if !chunk.is_empty() {
                chunk.iter().for_each(|found| met.add(found.packet.envelope()));
                let moved = self.bring(chunk, read, stop).await;
                matched += moved.done;
                left += moved.left;
                self.until_ready_has_room(stop).await;
            }
            self.show(rule, place, looked_at, matched);
            if behind {
                break;
            }
        }
        match left {
            0 => Ok(count(matched)),
            left => Err(Cut::Left(left)),
        }
    }

    fn show(&self, rule: &Rule, place: Place, looked_at: usize, matched: usize) {
        let mut progress = self.progress();
        let begun_ms = progress.iter().find(|known| known.rule == rule.id.as_str()).map(|known| known.begun_ms);
        progress.retain(|known| known.rule != rule.id.as_str());
        progress.push(ScanProgress {
            rule: rule.id.to_string(),
            place: place.to_string(),
            looked_at: count(looked_at),
            matched: count(matched),
            begun_ms: begun_ms.unwrap_or_else(|| clock::now().as_millis()),
        });
    }

    /// Notes in the rule that its scan is done, and what it found in the audit trail.
    async fn scanned(&self, rule: Rule, counts: Vec<(String, u64)>) {
        let (store, key) = (self.spool.config_store(), ConfigKey::Rule(rule.id.clone()));
        let found = match store.get(&key).await {
            Ok(found) => found,
            Err(error) => return tracing::warn!(rule = %rule.id, %error, "the end of a scan is not noted yet"),
        };
        // Removed meanwhile, or made anew.
        let Some(entry) = found else { return };
        let same = wire::Rule::decode(entry.value).ok().and_then(|wire| Rule::try_from(wire).ok());
        if !same.is_some_and(|same| same.same_order(&rule) && same.scanned_at.is_none()) {
            return;
        }
        let done = Rule { scanned_at: Some(clock::now()), ..rule };
        let value = wire::Rule::from(&done).encode_to_vec().into();
        match store.put(&key, value, Expected::Revision(entry.revision)).await {
            Ok(_) => tracing::info!(rule = %done.id, ?counts, "the tiers are scanned"),
            Err(BucketError::Conflict { .. }) => return,
            Err(error) => return tracing::warn!(rule = %done.id, %error, "the end of a scan is not noted yet"),
        }
        let operation = Operation {
            at: clock::now(),
            who: self.me.to_string(),
            command: "scan".to_owned(),
            filter: Some(done.filter),
            which: String::new(),
            rule: Some(done.id),
            dry_run: false,
            reason: done.reason,
            counts,
            outcome: "ok".to_owned(),
        };
        if let Err(error) = self.spool.record_operation(&operation).await {
            tracing::warn!(%error, "the end of a scan is not in the audit trail");
        }
    }
}

fn count(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}
