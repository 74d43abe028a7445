//! One shard of this process, from its claim to its release or loss: takes it over, pulls its mail, keeps its lease, lets go.
//! The machines say what comes next; nothing is decided here.

mod taking;

mod pulling;

mod lease;
pub use lease::machine;

mod releasing;

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use postrider_dispatch::ownership::Lease;
use postrider_dispatch::takeover::Takeover;
use postrider_model::ShardId;
use postrider_runtime::clock;
use tokio::sync::{Notify, mpsc, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use self::pulling::Pulled;
use crate::arrivals::Arrivals;
use crate::limits::{decode_question, encode_answer};
use crate::settlement::Settlements;
use crate::shard_states;
use crate::worker::{Input, Tools};

/// How long a step that failed is left alone.
const PAUSE: Duration = Duration::from_millis(500);

/// A shard's task.
pub struct ShardTask {
    /// The shard.
    pub shard: ShardId,
    /// What it works with.
    pub tools: Tools,
    /// The worker.
    pub inputs: mpsc::Sender<Input>,
    /// Looks exchangers up.
    pub arrivals: Arrivals,
    /// Asks for a release in good order.
    pub release: CancellationToken,
    /// Says that the shard is another's.
    pub lost: CancellationToken,
    /// Says that the lease may have been written over.
    pub look: Arc<Notify>,
    /// How long permits of the owner before may still be used by others.
    pub quiet: Duration,
}

/// A shard that is ours.
struct Owned {
    lease: Lease,
    revision: u64,
    settlements: Settlements,
    room: watch::Receiver<usize>,
    arriving: Arc<AtomicUsize>,
    pending: u64,
}

impl ShardTask {
    /// Runs until the shard is released or lost. `seen` is the lease as it was last seen, with its revision.
    pub async fn run(self, takeover: Takeover, seen: Option<u64>) {
        let shard = self.shard;
        let ended = self.live(takeover, seen).await;
        self.tools.limits.drop_shard(shard);
        match ended {
            Ended::NotTaken => tracing::debug!(%shard, "shard not taken"),
            Ended::Released => tracing::info!(%shard, "shard released"),
            // We are on our way out: whoever comes next takes it over.
            Ended::Lost if self.release.is_cancelled() => tracing::info!(%shard, "shard lost"),
            Ended::Lost => tracing::warn!(%shard, "shard lost"),
        }
        self.lost.cancel();
        // The worker ends only with the process.
        drop(self.inputs.send(Input::Lost(shard)).await);
    }

    async fn live(&self, takeover: Takeover, seen: Option<u64>) -> Ended {
        let taken = self.lost.run_until_cancelled(self.take_over(takeover, seen)).await;
        let Some((mut owned, mut puller)) = taken.flatten() else { return Ended::NotTaken };
        self.tools.limits.take(self.shard, owned.lease.epoch, self.quiet);
        let answers = answer_limits(self.shard, self.tools.clone(), self.lost.clone());
        let _answering = AbortOnDropHandle::new(tokio::spawn(answers));
        let credits =
            shard_states::answer_credit(self.shard, self.tools.spool.clone(), self.inputs.clone(), self.lost.clone());
        let _crediting = AbortOnDropHandle::new(tokio::spawn(credits));
        let pulled = self.lost.run_until_cancelled(self.pull(&mut owned, &mut puller)).await;
        if pulled != Some(Pulled::Release) {
            // What arrives from now on is the next owner's.
            tokio::spawn(puller.stop());
            return Ended::Lost;
        }
        self.lost.run_until_cancelled(self.let_go(owned, puller)).await.unwrap_or(Ended::Lost)
    }
}

enum Ended {
    NotTaken,
    Released,
    Lost,
}

/// Answers questions about limits of a shard that is ours.
async fn answer_limits(shard: ShardId, tools: Tools, lost: CancellationToken) {
    loop {
        match tools.spool.limit_questions(shard).await {
            Ok(mut questions) => {
                while let Some(Some(question)) = lost.run_until_cancelled(questions.next()).await {
                    let asked = match decode_question(question.payload.clone()) {
                        Ok(asked) => asked,
                        Err(error) => {
                            tracing::warn!(%shard, %error, "a question about a limit cannot be read");
                            continue;
                        }
                    };
                    let now = clock::now();
                    if tools.limits.owns(shard) {
                        let grant = tools.limits.answer(shard, &asked, now);
                        question.answer(encode_answer(grant.as_ref(), now)).await;
                    }
                }
            }
            Err(error) => tracing::debug!(%shard, %error, "cannot listen to questions about limits"),
        }
        if lost.is_cancelled() {
            return;
        }
        tokio::time::sleep(PAUSE).await;
    }
}
