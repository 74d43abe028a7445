//! Giving a shard back in good order: what is under way is let end, then the lease says that it is free.

use postrider_dispatch::takeover::{Release, ReleaseStep, TakeoverFailure};
use postrider_nats::Puller;
use tokio::sync::oneshot;

use super::{Ended, Owned, PAUSE, ShardTask};
use crate::worker::Input;

impl ShardTask {
    pub(super) async fn let_go(&self, mut owned: Owned, puller: Puller) -> Ended {
        let mut release = Release::new(self.shard, owned.lease.clone());
        let mut puller = Some(puller);
        let mut drained = None;
        loop {
            if !self.tools.fence.may_act() {
                release.failed(TakeoverFailure::Fenced);
            }
            let done = match release.step() {
                ReleaseStep::StopPulling => {
                    if let Some(puller) = puller.take() {
                        puller.stop().await;
                    }
                    true
                }
                ReleaseStep::HandBack => {
                    owned.settlements.releasing.cancel();
                    let (sender, receiver) = oneshot::channel();
                    drained = Some(receiver);
                    self.inputs.send(Input::Release(self.shard, sender)).await.is_ok()
                }
                ReleaseStep::Drain => {
                    if let Some(drained) = drained.take() {
                        // A worker that is gone has nothing to drain.
                        drop(drained.await);
                    }
                    release.settled_through(owned.settlements.journal.tracker().through());
                    true
                }
                ReleaseStep::WriteReleased(lease) => {
                    self.tools.limits.drop_shard(self.shard);
                    match self.write(&mut owned, lease).await {
                        Ok(()) => true,
                        Err(failure) => {
                            release.failed(failure);
                            tokio::time::sleep(PAUSE).await;
                            false
                        }
                    }
                }
                ReleaseStep::Released => return Ended::Released,
                ReleaseStep::GiveUp => return Ended::Lost,
            };
            if done {
                release.done();
            }
        }
    }
}
