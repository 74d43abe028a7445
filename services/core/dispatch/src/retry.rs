//! When an envelope has its next turn after a temporary failure: by attempt, with jitter, never past its expiry.
