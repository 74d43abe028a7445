//! The numbers of the dispatcher.

use std::time::Duration;

use postrider_model::TierDelays;

/// Budgets, times and shares. The defaults are those of a cluster's delivery process.
#[derive(Clone, Debug)]
pub struct DispatcherConfig {
    /// How long each tier makes wait.
    pub tier_delays: TierDelays,
    /// What would wait longer than this moves to a tier. Not longer than the shortest tier, or it serves no purpose.
    pub index_wait: Duration,
    /// Envelopes in the index of the whole process, divided over the shards it owns: about half a kilobyte each. 100 of each
    /// shard have room in any case.
    pub index_capacity: usize,
    /// Envelopes of one shard in the index: what its consumer may have unacked (20,000), less some headroom.
    pub shard_capacity: usize,
    /// Envelopes of one tenant at one site in one shard, unless they are seen to drain soon, or it is too early to see.
    pub tenant_site_capacity: usize,
    /// Bytes of bodies in memory; a fifth is kept for transactional mail.
    pub body_bytes: u64,
    /// Conversations of this process at the same time; a fifth is kept for transactional mail.
    pub conversations: usize,
    /// A conversation with nothing to send is closed after this long.
    pub idle_timeout: Duration,
    /// One more connection is opened at a time for each so many ready messages.
    pub messages_per_opening: usize,
    /// Recipients a tenant of weight 1 may send to in a row before the next tenant's turn. A larger part takes several turns. Also
    /// the messages a conversation carries before it gives way to who has none.
    pub quantum: u32,
    /// Bodies read ahead for each exchange.
    pub read_ahead: usize,
    /// Envelopes on their way from the index to one tier, or elsewhere, at the same time.
    pub moves_at_once: usize,
    /// From so many moves of a site's, or a tenant's mail there, within some seconds on, others are told to send it to tiers.
    pub jam_from: usize,
    /// How long an exchange is left alone after its first failure in a row; doubles with each.
    pub first_closure: Duration,
    /// The longest it is left alone.
    pub longest_closure: Duration,
    /// How long a source is left alone after its first failure in a row; doubles with each.
    pub first_suspension: Duration,
    /// The longest it is left alone.
    pub longest_suspension: Duration,
}

impl Default for DispatcherConfig {
    fn default() -> Self {
        Self {
            tier_delays: TierDelays::default(),
            index_wait: Duration::from_secs(60),
            index_capacity: 400_000,
            shard_capacity: 19_000,
            tenant_site_capacity: 9_500,
            body_bytes: 512 << 20,
            conversations: 2_000,
            idle_timeout: Duration::from_secs(3),
            messages_per_opening: 10,
            quantum: 10,
            read_ahead: 8,
            moves_at_once: 500,
            jam_from: 200,
            first_closure: Duration::from_secs(60),
            longest_closure: Duration::from_secs(30 * 60),
            first_suspension: Duration::from_secs(5),
            longest_suspension: Duration::from_secs(60),
        }
    }
}
