//! Who may call: the bearer of a token of the token file. Compared in constant time; a refusal tells nothing about why.

use std::path::Path;
use std::sync::Arc;

use aws_lc_rs::constant_time;
use tonic::service::Interceptor;
use tonic::{Code, Request, Status};

use crate::ControlError;
use crate::filter::Who;
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
        if path.as_os_str().is_empty() {
            return Err(ControlError::Config("control.token_file: is required".into()));
        }
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

    /// The number of the token, from 1.
    fn knows(&self, offered: &str) -> Option<usize> {
        // Every token is compared, so that the time tells nothing about which one is near.
        (1usize..).zip(self.tokens.iter()).fold(None, |known, (number, token)| {
            let same = constant_time::verify_slices_are_equal(token.as_bytes(), offered.as_bytes()).is_ok();
            known.or(same.then_some(number))
        })
    }
}

impl Interceptor for Authentication {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        let offered = request.metadata().get("authorization").and_then(|value| value.to_str().ok());
        let known = offered.map(|value| {
            let bearer = value.split_once(' ').filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
            bearer.and_then(|(_, token)| self.knows(token.trim()))
        });
        let refusal = match known {
            None => "the call carries no token (authorization: Bearer <token>)",
            Some(None) => "wrong token",
            Some(Some(number)) => {
                request.extensions_mut().insert(Who(format!("token {number}")));
                return Ok(request);
            }
        };
        self.metrics.request("any", Code::Unauthenticated);
        Err(Status::unauthenticated(refusal))
    }
}
