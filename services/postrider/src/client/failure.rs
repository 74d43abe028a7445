//! What can go wrong for a client command, the words for it, and its exit code. Decides nothing else.

use std::io::Write;
use std::process::ExitCode;

use thiserror::Error;
use tonic::{Code, Status};

/// Why a client command did not do what it was asked.
#[derive(Debug, Error)]
pub enum Failure {
    /// The server said no, or could not.
    #[error("{}", said(.0))]
    Refused(#[source] Box<Status>),
    /// Nobody answered.
    #[error(
        "no control service answers at {server}: {why}\n\
         Is it running? Another address is given by --server, POSTRIDER_SERVER, or `server` in {config}."
    )]
    Unreachable {
        /// Where it was looked for.
        server: String,
        /// What the network said.
        why: String,
        /// The client's configuration file.
        config: String,
    },
    /// The token is missing or wrong.
    #[error(
        "the control service at {server} refuses the token: {why}\n\
         A token file is given by --token-file, POSTRIDER_TOKEN_FILE, or `token_file` in {config}."
    )]
    Token {
        /// The server.
        server: String,
        /// What it said.
        why: String,
        /// The client's configuration file.
        config: String,
    },
    /// What was asked for does not go together, or cannot be read.
    #[error("{0}")]
    Usage(String),
    /// A file or a pipe failed.
    #[error("{what}: {source}")]
    File {
        /// Which one, and what was tried.
        what: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Nothing was found that fits.
    #[error("{0}")]
    NotFound(String),
    /// Accepted is not ended plus waiting.
    #[error("{0}")]
    Difference(String),
    /// The reader of our output went away: not worth a word.
    #[error("the reader of the output is gone")]
    PipeClosed,
    /// Anything else.
    #[error("{0}")]
    Other(String),
}

fn said(status: &Status) -> String {
    match status.message() {
        "" => format!("the control service answers: {}", status.code()),
        text => text.to_owned(),
    }
}

impl From<Status> for Failure {
    fn from(status: Status) -> Self {
        Self::Refused(Box::new(status))
    }
}

impl Failure {
    /// A failure of our own output.
    pub(super) fn output(error: std::io::Error) -> Self {
        if error.kind() == std::io::ErrorKind::BrokenPipe {
            return Self::PipeClosed;
        }
        Self::File { what: "standard output".into(), source: error }
    }

    /// The exit code, as documented in the help.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::PipeClosed => 0,
            Self::Other(_) | Self::File { .. } => 1,
            Self::Usage(_) => 2,
            Self::NotFound(_) => 3,
            Self::Unreachable { .. } => 4,
            Self::Token { .. } => 5,
            Self::Difference(_) => 7,
            Self::Refused(status) => match status.code() {
                Code::InvalidArgument | Code::OutOfRange => 2,
                Code::NotFound => 3,
                Code::Unavailable => 4,
                Code::Unauthenticated | Code::PermissionDenied => 5,
                Code::AlreadyExists | Code::FailedPrecondition | Code::Aborted => 6,
                Code::Ok
                | Code::Cancelled
                | Code::Unknown
                | Code::DeadlineExceeded
                | Code::ResourceExhausted
                | Code::Unimplemented
                | Code::Internal
                | Code::DataLoss => 1,
            },
        }
    }

    /// Says what failed on standard error, and gives the exit code.
    pub(super) fn report(&self) -> ExitCode {
        if !matches!(self, Self::PipeClosed) {
            // If standard error is gone too, the exit code is all that is left to say.
            writeln!(std::io::stderr().lock(), "postrider: {self}").ok();
        }
        ExitCode::from(self.exit_code())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_are_those_of_the_help() {
        let code = |code| Failure::from(Status::new(code, "x")).exit_code();
        assert_eq!(code(Code::NotFound), 3);
        assert_eq!(code(Code::Unavailable), 4);
        assert_eq!(code(Code::Unauthenticated), 5);
        assert_eq!([Code::AlreadyExists, Code::FailedPrecondition, Code::Aborted].map(code), [6, 6, 6]);
        assert_eq!(code(Code::InvalidArgument), 2);
        assert_eq!(code(Code::Internal), 1);
    }

    #[test]
    fn a_closed_pipe_is_no_failure() {
        let failure = Failure::output(std::io::Error::from(std::io::ErrorKind::BrokenPipe));
        assert_eq!(failure.exit_code(), 0);
    }
}
