//! What goes out and which connections stand, held against the limits of each site.

use std::time::Duration;

use postrider_dispatch::dispatcher::Conversation;
use postrider_model::{ShardId, SiteName, Timestamp};

use super::{IN_DOUBT, Judge};
use crate::exec::Life;
use crate::spool::LAYOUT;

/// What it takes to close a connection.
const CLOSING: Duration = Duration::from_millis(100);

/// A connection that stands or is being opened.
pub(super) struct Connection {
    site: SiteName,
    /// Its permit ends.
    until: Timestamp,
    busy: bool,
    /// When it last ended a message.
    free_since: Timestamp,
}

impl Connection {
    /// What carries a message when its permit ends goes on to its end, and counts no more. Any other is closed, which takes a moment.
    fn counts(&self, now: Timestamp) -> bool {
        now < self.until || (!self.busy && now > self.until.max(self.free_since).after(CLOSING))
    }
}

impl Judge {
    /// A process holds so many envelopes of a shard, those that were pulled and have not arrived yet included.
    pub fn holds(&self, life: Life, shard: ShardId, count: usize, most: usize) {
        if count > most {
            self.violated(format!("invariant 9: {life:?} holds {count} envelopes of {shard} instead of {most}"));
        }
    }

    /// A message is begun over a connection, to so many recipients. `ordered` is when that was decided.
    pub fn mails(&self, life: Life, site: &SiteName, recipients: u32, ordered: Timestamp) {
        let now = self.sim.now();
        let Some(rate) = self.shaping.of(site).message_rate else { return };
        let mut book = self.book.borrow_mut();
        // What was decided before the process was frozen comes too late and is nobody's fault.
        if book.thawed.get(&life).is_some_and(|thawed| *thawed >= ordered) {
            return;
        }
        let reign = book.reigns.get(&LAYOUT.limit_shard(site)).copied();
        let mails = book.mails.entry(site.clone()).or_default();
        mails.push((now, recipients));
        mails.retain(|(at, _)| at.after(rate.window()) > now);
        // A new owner knows nothing of what the one before gave out: it begins with nothing, and gets what the limit gives in
        // the time. Only what went out under it is counted against that.
        let (begun, quiet_until) = reign.unwrap_or_default();
        let of_reign = mails.iter().filter(|(at, _)| *at >= quiet_until.max(begun));
        let count: u32 = of_reign.map(|(_, recipients)| recipients).sum();
        let elapsed = now.since(begun).min(rate.window()).as_millis();
        let most = (u128::from(rate.count()) * elapsed).div_ceil(rate.window().as_millis());
        // Who takes the limit over in doubt, or before its old permits have ended, may give the same out again.
        let in_doubt = book.tampered.is_some_and(|at| now.since(at) < IN_DOUBT + rate.window());
        drop(book);
        if u128::from(count) > most && !in_doubt {
            self.violated(format!(
                "invariant 5: {count} recipients within {elapsed} ms at {site}, whose limit is {rate}"
            ));
        }
    }

    /// A limit shard has a new owner.
    pub fn reigns(&self, shard: ShardId, quiet: Duration) {
        let now = self.sim.now();
        self.book.borrow_mut().reigns.insert(shard, (now, now.after(quiet)));
    }

    /// A connection is being opened, with a permit until then.
    pub fn connects(&self, (life, conversation): (Life, Conversation), site: &SiteName, until: Timestamp) {
        let most = self.shaping.of(site).connections;
        let now = self.sim.now();
        self.hear(|| format!("{life:?} connects to {site} as {conversation:?}"));
        let mut book = self.book.borrow_mut();
        book.open.insert((life, conversation), Connection { site: site.clone(), until, busy: false, free_since: now });
        let excused = |life: &Life| {
            book.frozen.contains(life)
                || book.thawed.get(life).is_some_and(|thawed| now.since(*thawed) < Duration::from_secs(2))
        };
        let counts = |open: &Connection| open.site == *site && open.counts(now);
        let open = book.open.iter().filter(|((life, _), open)| counts(open) && !excused(life)).count();
        drop(book);
        if open > usize::try_from(most).unwrap() && !self.is_in_doubt() {
            self.violated(format!("invariant 5: {open} connections to {site} instead of {most}"));
        }
    }

    /// The permit of a connection is longer.
    pub fn is_permitted(&self, life: Life, conversation: Conversation, until: Timestamp) {
        if let Some(open) = self.book.borrow_mut().open.get_mut(&(life, conversation)) {
            open.until = until;
        }
    }

    /// A connection carries a message, or no longer.
    pub fn is_busy(&self, life: Life, conversation: Conversation, busy: bool) {
        if let Some(open) = self.book.borrow_mut().open.get_mut(&(life, conversation)) {
            (open.busy, open.free_since) = (busy, self.sim.now());
        }
    }

    /// A connection is closed.
    pub fn disconnects(&self, life: Life, conversation: Conversation) {
        self.hear(|| format!("{life:?} disconnects {conversation:?}"));
        self.book.borrow_mut().open.remove(&(life, conversation));
    }
}
