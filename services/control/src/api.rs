//! What all services of the API stand on.

use std::sync::Arc;

use postrider_nats::Spool;
use postrider_runtime::ClusterKey;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Response, Status};

use crate::audit::Auditor;
use crate::metrics::Metrics;
use crate::store::Store;

/// One API; every service of it is a clone of this.
#[derive(Clone)]
pub(crate) struct Api {
    pub(crate) store: Arc<Store>,
    pub(crate) spool: Spool,
    pub(crate) key: ClusterKey,
    pub(crate) metrics: Metrics,
    pub(crate) auditor: Auditor,
    /// Ends streams that would never end by themselves.
    pub(crate) closing: CancellationToken,
}

impl Api {
    /// Counts a call by its end, and makes it an answer.
    pub(crate) fn answer<T>(&self, method: &'static str, ended: Result<T, Status>) -> Result<Response<T>, Status> {
        match ended {
            Ok(answer) => {
                self.metrics.request(method, Code::Ok);
                Ok(Response::new(answer))
            }
            Err(status) => {
                self.metrics.request(method, status.code());
                if matches!(status.code(), Code::Internal | Code::Unavailable) {
                    tracing::warn!(method, code = ?status.code(), error = status.message(), "a call failed");
                } else {
                    tracing::debug!(method, code = ?status.code(), error = status.message(), "a call was refused");
                }
                Err(status)
            }
        }
    }
}
