//! A connection, and a request over it that does not wait for an answer which a lost connection has taken with it.

use std::time::Duration;

use async_nats::client::Request;
use async_nats::{Client, HeaderMap, Message, RequestErrorKind};
use bytes::Bytes;
use thiserror::Error;
use tokio::sync::watch;

use crate::group_commit::{GroupCommit, NotOnDisk};

/// Why a request has no answer. Whether it was heard is not known.
#[derive(Debug, Error)]
pub(crate) enum NoAnswer {
    /// Nobody listens there.
    #[error("no responders")]
    NoResponders,
    /// Too late.
    #[error("no answer in time")]
    TimedOut,
    /// The connection was made anew meanwhile.
    #[error("the connection was lost")]
    Lost,
    /// The client refuses.
    #[error("{0}")]
    Failed(String),
}

/// A client, and a count that moves whenever the connection has been made anew.
#[derive(Clone)]
pub(crate) struct Link {
    pub(crate) client: Client,
    pub(crate) reconnects: watch::Receiver<u64>,
    /// Where the server leaves it to us to put its store on disk.
    pub(crate) commit: Option<GroupCommit>,
}

impl Link {
    /// Returns when what has been acknowledged is as durable as the class of the cluster says.
    pub(crate) async fn until_durable(&self) -> Result<(), NotOnDisk> {
        match &self.commit {
            Some(commit) => commit.wait().await,
            None => Ok(()),
        }
    }

    /// Asks once.
    pub(crate) async fn request(
        &self,
        subject: impl Into<String>,
        headers: HeaderMap,
        payload: Bytes,
        patience: Duration,
    ) -> Result<Message, NoAnswer> {
        let mut request = Request::new().payload(payload).timeout(Some(patience));
        if !headers.is_empty() {
            request = request.headers(headers);
        }
        let mut reconnects = self.reconnects.clone();
        reconnects.mark_unchanged();
        // The outer bound counts where the connection is gone and the client's own queue is full.
        let answer = tokio::select! {
            answer = tokio::time::timeout(patience, self.client.send_request(subject.into(), request)) => answer,
            Ok(()) = reconnects.changed() => return Err(NoAnswer::Lost),
        };
        match answer {
            Ok(Ok(message)) => Ok(message),
            Ok(Err(error)) => Err(match error.kind() {
                RequestErrorKind::NoResponders => NoAnswer::NoResponders,
                RequestErrorKind::TimedOut => NoAnswer::TimedOut,
                _ => NoAnswer::Failed(error.to_string()),
            }),
            Err(_) => Err(NoAnswer::TimedOut),
        }
    }
}
