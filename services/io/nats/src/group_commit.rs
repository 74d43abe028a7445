//! Group commit for a nats-server on this machine that does not call fsync itself: one syncfs of its filesystem puts down all
//! that it had written by then, however many messages wait for it.
//!
//! nats-server writes a message to its file before it acknowledges it; what is missing until a power cut does no harm is that
//! the kernel's pages reach the disk. So whoever was acknowledged waits here for the end of a syncfs that began afterwards. While
//! one runs the next group gathers: under load a group is as large as what arrived during one sync, at rest it is one message.
//!
//! That holds where a file that is renamed over another reaches the disk before its new name does, because nats-server compacts
//! its blocks that way without fsync: [`suits`] knows the filesystems that promise it.

use std::fs::File;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use rustix::fs::{FsWord, fstatfs, syncfs};
use thiserror::Error;
use tokio::sync::oneshot;

/// `statfs` types of ext4 (its `auto_da_alloc`, ext4(5)) and btrfs (btrfs(5), `flushoncommit`: renames flush in any case).
const SUITABLE: [FsWord; 2] = [0xef53, 0x9123_683e];

/// The disk did not take what was acknowledged. Once it has not, nothing more is promised: the kernel tells of an error once,
/// and the pages it concerns count as clean from then on.
#[derive(Clone, Debug, Error)]
#[error("the store of nats-server cannot be put on disk: {0}")]
pub struct NotOnDisk(String);

/// A thread that syncs, and those who wait for it. Cheap to clone; the thread ends with the last one.
#[derive(Clone)]
pub(crate) struct GroupCommit {
    desk: Arc<Desk>,
    _open: Arc<Open>,
}

#[derive(Default)]
struct Desk {
    state: Mutex<State>,
    came: Condvar,
}

#[derive(Default)]
struct State {
    waiting: Vec<oneshot::Sender<Result<(), NotOnDisk>>>,
    broken: Option<NotOnDisk>,
    closed: bool,
}

struct Open(Arc<Desk>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.lock().closed = true;
        self.0.came.notify_one();
    }
}

impl Desk {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Syncs for whoever waits, until nobody can come any more.
    fn serve(&self, sync: impl Fn() -> Result<(), NotOnDisk>) {
        loop {
            let mut state = self.lock();
            while state.waiting.is_empty() && !state.closed {
                state = self.came.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
            if state.waiting.is_empty() {
                return;
            }
            let group = std::mem::take(&mut state.waiting);
            let broken = state.broken.clone();
            drop(state);
            // Who came while a sync failed was acknowledged before it: the next one would say nothing of what is missing.
            let synced = broken.map_or_else(&sync, Err);
            if let Err(error) = &synced
                && self.lock().broken.replace(error.clone()).is_none()
            {
                tracing::error!(%error, "nothing is accepted any more: look after the disk, then start again");
            }
            // Whoever does not wait any more has given up.
            group.into_iter().for_each(|waiter| drop(waiter.send(synced.clone())));
        }
    }
}

impl GroupCommit {
    /// Syncs the filesystem that `folder` lies on.
    ///
    /// # Errors
    /// If the folder cannot be opened, or a thread not be started.
    pub(crate) fn start(folder: &Path) -> std::io::Result<Self> {
        let folder = File::open(folder)?;
        Self::with(move || syncfs(&folder).map_err(|error| NotOnDisk(error.to_string())))
    }

    fn with(sync: impl Fn() -> Result<(), NotOnDisk> + Send + 'static) -> std::io::Result<Self> {
        let desk = Arc::new(Desk::default());
        let served = Arc::clone(&desk);
        std::thread::Builder::new().name("group-commit".to_owned()).spawn(move || served.serve(sync))?;
        Ok(Self { _open: Arc::new(Open(Arc::clone(&desk))), desk })
    }

    /// The error after which nothing is promised.
    pub(crate) fn broken(&self) -> Option<NotOnDisk> {
        self.desk.lock().broken.clone()
    }

    /// Returns when everything that nats-server had acknowledged at the call is on disk.
    pub(crate) async fn wait(&self) -> Result<(), NotOnDisk> {
        let receiver = {
            let mut state = self.desk.lock();
            if let Some(broken) = &state.broken {
                return Err(broken.clone());
            }
            let (sender, receiver) = oneshot::channel();
            state.waiting.push(sender);
            receiver
        };
        self.desk.came.notify_one();
        receiver.await.unwrap_or_else(|_| Err(NotOnDisk("the thread that syncs is gone".to_owned())))
    }
}

/// Whether group commit keeps its promise on the filesystem of a folder; not if that cannot be told.
pub fn suits(folder: &Path) -> bool {
    let kind = File::open(folder).and_then(|folder| Ok(fstatfs(folder)?.f_type));
    kind.is_ok_and(|kind| SUITABLE.contains(&kind))
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[tokio::test]
    async fn one_sync_is_for_all_who_came_before_it_began_and_none_who_came_later() {
        let (begun, begins) = mpsc::channel();
        let (end, ends) = mpsc::channel();
        let commit = GroupCommit::with(move || {
            begun.send(()).unwrap();
            ends.recv().unwrap()
        })
        .unwrap();
        let wait = |commit: &GroupCommit| {
            let commit = commit.clone();
            tokio::spawn(async move { commit.wait().await })
        };
        let first = wait(&commit);
        while begins.try_recv().is_err() {
            tokio::task::yield_now().await;
        }
        let later = [wait(&commit), wait(&commit)];
        while commit.desk.lock().waiting.len() < 2 {
            tokio::task::yield_now().await;
        }
        end.send(Ok(())).unwrap();
        assert!(first.await.unwrap().is_ok());
        assert!(later.iter().all(|waiter| !waiter.is_finished()));
        end.send(Ok(())).unwrap();
        for waiter in later {
            assert!(waiter.await.unwrap().is_ok());
        }
        assert_eq!(begins.try_iter().count(), 1, "one sync for the two of them");
    }

    #[tokio::test]
    async fn who_came_while_a_sync_failed_is_told_so_too() {
        let (begun, begins) = mpsc::channel();
        let (end, ends) = mpsc::channel();
        let commit = GroupCommit::with(move || {
            begun.send(()).unwrap();
            ends.recv().unwrap()
        })
        .unwrap();
        let wait = |commit: GroupCommit| tokio::spawn(async move { commit.wait().await });
        let first = wait(commit.clone());
        while begins.try_recv().is_err() {
            tokio::task::yield_now().await;
        }
        let second = wait(commit.clone());
        while commit.desk.lock().waiting.is_empty() {
            tokio::task::yield_now().await;
        }
        end.send(Err(NotOnDisk("I/O error".to_owned()))).unwrap();
        // The next sync would succeed: the kernel tells of an error once.
        end.send(Ok(())).unwrap();
        assert!(first.await.unwrap().is_err());
        assert!(second.await.unwrap().is_err());
    }

    #[tokio::test]
    async fn after_an_error_nothing_counts_as_on_disk() {
        let fails = std::sync::atomic::AtomicBool::new(true);
        let commit = GroupCommit::with(move || match fails.swap(false, std::sync::atomic::Ordering::Relaxed) {
            true => Err(NotOnDisk("I/O error".to_owned())),
            false => Ok(()),
        })
        .unwrap();
        assert!(commit.wait().await.unwrap_err().to_string().contains("I/O error"));
        assert!(commit.wait().await.is_err() && commit.broken().is_some());
    }

    #[tokio::test]
    async fn a_folder_that_is_there_is_synced_and_one_that_is_not_is_named() {
        let folder = tempfile::tempdir().unwrap();
        assert!(GroupCommit::start(folder.path()).unwrap().wait().await.is_ok());
        assert!(GroupCommit::start(&folder.path().join("missing")).is_err());
        assert!(!suits(Path::new("/proc")) && !suits(&folder.path().join("missing")));
    }
}
