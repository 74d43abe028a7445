//! Who may call: the bearer of a token of the token file. Compared in constant time; a refusal tells nothing about why.

use std::path::Path;
use std::sync::Arc;

use aws_lc_rs::constant_time;
use tonic::service::Interceptor;
use tonic::{Code, Request, Status};

use crate::ControlError;
use crate::metrics::Metrics;

const SHORTEST_TOKEN: usize = 16;

/// Lets calls pass that carry a token.
#[derive(Clone)]
pub(crate) struct Authentication {
    tokens: Arc<[String]>,
    metrics: Metrics,
}

impl Authentication {
    /// Reads the tokens: one a line, empty lines left out.
    pub(crate) fn load(path: &Path, metrics: Metrics) -> Result<Self, ControlError> {
        let text = std::fs::read_to_string(path).map_err(|source| ControlError::File {
            what: "control.token_file",
            path: path.to_owned(),
            source,
        })?;
        let tokens: Vec<String> =
            text.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned).collect();
        let refuse = |why: &str| Err(ControlError::Config(format!("control.token_file {}: {why}", path.display())));
        if tokens.is_empty() {
            return refuse("holds no token");
        }
        if tokens.iter().any(|token| token.len() < SHORTEST_TOKEN) {
            return refuse("a token is shorter than 16 characters and could be guessed");
        }
        Ok(Self { tokens: tokens.into(), metrics })
    }

    fn knows(&self, offered: &str) -> bool {
        // Every token is compared, so that the time tells nothing about which one is near.
        self.tokens.iter().fold(false, |known, token| {
            known | constant_time::verify_slices_are_equal(token.as_bytes(), offered.as_bytes()).is_ok()
        })
    }
}

impl Interceptor for Authentication {
    fn call(&mut self, request: Request<()>) -> Result<Request<()>, Status> {
        let offered = request.metadata().get("authorization").and_then(|value| value.to_str().ok());
        let refusal = match offered {
            None => "the call carries no token (authorization: Bearer <token>)",
            Some(value) => match value.split_once(' ') {
                Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") && self.knows(token.trim()) => {
                    return Ok(request);
                }
                _ => "wrong token",
            },
        };
        self.metrics.request("any", Code::Unauthenticated);
        Err(Status::unauthenticated(refusal))
    }
}
