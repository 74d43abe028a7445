//! What the control service counts. Labels are names of our own methods and kinds: bounded.

use prometheus::{IntCounter, IntCounterVec, IntGauge, Opts, Registry};
use tonic::Code;

/// The metrics; cheap to clone.
#[derive(Clone)]
pub(crate) struct Metrics {
    requests: IntCounterVec,
    writes: IntCounterVec,
    lagging_members: IntGauge,
    audit_difference: IntGauge,
    audit_time: IntGauge,
    bodies: Bodies,
}

/// What is kept in BODY, and what is deleted there because all parts that shared it have ended.
#[derive(Clone)]
struct Bodies {
    messages: IntGauge,
    bytes: IntGauge,
    open: IntGauge,
    deleted: IntCounter,
    deleted_bytes: IntCounter,
}

impl Bodies {
    fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let bodies = Self {
            messages: IntGauge::new("postrider_stored_body_chunks", "chunks of bodies that the BODY streams hold")?,
            bytes: IntGauge::new("postrider_stored_body_bytes", "bytes that the BODY streams hold")?,
            open: IntGauge::new(
                "postrider_bodies_shared_open",
                "messages of which some parts have ended and share their body with others that have not; on the process that \
                 deletes such bodies",
            )?,
            deleted: IntCounter::new(
                "postrider_bodies_shared_deleted_total",
                "bodies deleted because all parts that shared them had ended",
            )?,
            deleted_bytes: IntCounter::new("postrider_bodies_shared_deleted_bytes_total", "the bytes of these bodies")?,
        };
        for gauge in [&bodies.messages, &bodies.bytes, &bodies.open] {
            registry.register(Box::new(gauge.clone()))?;
        }
        registry.register(Box::new(bodies.deleted.clone()))?;
        registry.register(Box::new(bodies.deleted_bytes.clone()))?;
        Ok(bodies)
    }
}

impl Metrics {
    pub(crate) fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let requests = IntCounterVec::new(
            Opts::new("postrider_control_requests_total", "gRPC calls by method and status code"),
            &["method", "code"],
        )?;
        let writes = IntCounterVec::new(
            Opts::new("postrider_control_writes_total", "objects written to the configuration by kind and action"),
            &["kind", "action"],
        )?;
        let lagging_members = IntGauge::new(
            "postrider_control_lagging_members",
            "living members that had not reported the latest write when it was answered",
        )?;
        let audit_difference = IntGauge::new(
            "postrider_audit_difference_recipients",
            "recipients by which accepted is not ended plus waiting, at the last audit",
        )?;
        let audit_time =
            IntGauge::new("postrider_audit_timestamp_seconds", "when the last audit ended; 0: there was none")?;
        registry.register(Box::new(audit_difference.clone()))?;
        registry.register(Box::new(audit_time.clone()))?;
        registry.register(Box::new(requests.clone()))?;
        registry.register(Box::new(writes.clone()))?;
        registry.register(Box::new(lagging_members.clone()))?;
        let bodies = Bodies::new(registry)?;
        Ok(Self { bodies, requests, writes, lagging_members, audit_difference, audit_time })
    }

    pub(crate) fn request(&self, method: &str, code: Code) {
        self.requests.with_label_values(&[method, name(code)]).inc();
    }

    pub(crate) fn write(&self, kind: &str, action: &str) {
        self.writes.with_label_values(&[kind, action]).inc();
    }

    pub(crate) fn audited(&self, difference: u64, at_secs: u64) {
        self.audit_difference.set(i64::try_from(difference).unwrap_or(i64::MAX));
        self.audit_time.set(i64::try_from(at_secs).unwrap_or(i64::MAX));
    }

    pub(crate) fn bodies_held(&self, (messages, bytes): (u64, u64)) {
        self.bodies.messages.set(i64::try_from(messages).unwrap_or(i64::MAX));
        self.bodies.bytes.set(i64::try_from(bytes).unwrap_or(i64::MAX));
    }

    pub(crate) fn bodies_open(&self, messages: usize) {
        self.bodies.open.set(i64::try_from(messages).unwrap_or(i64::MAX));
    }

    pub(crate) fn body_deleted(&self, bytes: u64) {
        self.bodies.deleted.inc();
        self.bodies.deleted_bytes.inc_by(bytes);
    }

    pub(crate) fn lagging(&self, members: usize) {
        self.lagging_members.set(i64::try_from(members).unwrap_or(i64::MAX));
    }
}

fn name(code: Code) -> &'static str {
    match code {
        Code::Ok => "ok",
        Code::Cancelled => "cancelled",
        Code::Unknown => "unknown",
        Code::InvalidArgument => "invalid_argument",
        Code::DeadlineExceeded => "deadline_exceeded",
        Code::NotFound => "not_found",
        Code::AlreadyExists => "already_exists",
        Code::PermissionDenied => "permission_denied",
        Code::ResourceExhausted => "resource_exhausted",
        Code::FailedPrecondition => "failed_precondition",
        Code::Aborted => "aborted",
        Code::OutOfRange => "out_of_range",
        Code::Unimplemented => "unimplemented",
        Code::Internal => "internal",
        Code::Unavailable => "unavailable",
        Code::DataLoss => "data_loss",
        Code::Unauthenticated => "unauthenticated",
    }
}
