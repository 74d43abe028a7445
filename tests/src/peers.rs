//! Real SMTP software at both ends: what submits (smtplib, nodemailer, swaks, curl), what receives (aiosmtpd, Postfix), what
//! verifies (dkimpy). A test that needs one that is absent says so loudly and is counted by `tests/run`.

use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use serde::de::DeserializeOwned;

use crate::{place, power_cut};

mod submit;
pub use submit::{Account, Answer, Security, curl, message_id, nodemailer, smtplib, swaks};

mod receive;
pub use receive::{Aiosmtpd, Kept, Postfix};

mod dkim;
pub use dkim::{Signature, verify_dkim};

/// Software that `tests/run` installs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// A Python 3 with its standard library.
    Python,
    /// The Python package.
    Aiosmtpd,
    /// The Python package.
    Dkimpy,
    /// Node.js and the package.
    Nodemailer,
    /// The program.
    Swaks,
    /// The program.
    Curl,
    /// The programs, and the right to start them.
    Postfix,
    /// The program, and the right to trace.
    Strace,
}

impl Peer {
    /// Why it cannot be used here; nothing if it can.
    fn obstacle(self) -> Option<String> {
        let program = |name: &str| match place::on_path(name) {
            Some(_) => None,
            None => Some(format!("{name} is not installed")),
        };
        let file = |path: Result<PathBuf>| match path {
            Ok(path) if path.exists() => None,
            Ok(path) => Some(format!("{} does not exist", path.display())),
            Err(error) => Some(error.to_string()),
        };
        match self {
            Self::Python => program("python3"),
            Self::Aiosmtpd | Self::Dkimpy => file(packaged_python()),
            Self::Nodemailer => {
                program("node").or_else(|| file(node_modules().map(|folder| folder.join("nodemailer"))))
            }
            Self::Swaks => program("swaks"),
            Self::Curl => program("curl"),
            Self::Strace => power_cut::obstacle(),
            Self::Postfix => file(Ok(PathBuf::from("/usr/lib/postfix/sbin/master"))).or_else(|| match is_root() {
                Ok(true) => None,
                Ok(false) => Some("Postfix is started by root only".to_owned()),
                Err(error) => Some(error.to_string()),
            }),
        }
    }
}

/// Whether all these peers can be used. If not, says so past the test's captured output, and notes it for `tests/run`.
///
/// # Errors
/// If the note cannot be written.
pub fn all_here(test: &str, peers: &[Peer]) -> Result<bool> {
    let obstacles: Vec<String> = peers.iter().filter_map(|peer| peer.obstacle()).collect();
    if obstacles.is_empty() {
        return Ok(true);
    }
    not_run(test, &format!("{} (tests/run installs it)", obstacles.join("; ")))?;
    Ok(false)
}

/// Says past the captured output that a test is not run, and notes it for `tests/run`.
///
/// # Errors
/// If the note cannot be written.
pub fn not_run(test: &str, why: &str) -> Result<()> {
    writeln!(std::io::stderr(), "\nNOT RUN: {test}: {why}\n")?;
    if let Some(notes) = std::env::var_os("POSTRIDER_SKIPPED") {
        let mut notes = std::fs::File::options().append(true).create(true).open(notes)?;
        writeln!(notes, "{test}: {why}")?;
    }
    Ok(())
}

/// The Python that has the packages.
fn packaged_python() -> Result<PathBuf> {
    Ok(place::installed_peers()?.join("venv/bin/python"))
}

fn node_modules() -> Result<PathBuf> {
    Ok(place::installed_peers()?.join("node_modules"))
}

fn is_root() -> Result<bool> {
    let output = Command::new("id").arg("-u").output()?;
    Ok(output.stdout.trim_ascii() == b"0")
}

/// Runs a program to its end with `input`, and reads the JSON that it prints.
fn json_of<T: DeserializeOwned>(command: &mut Command, input: &str) -> Result<T> {
    let output = output_of(command, input)?;
    let said = String::from_utf8_lossy(&output.stdout);
    let complaint = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command:?} ended with {}: {complaint}", output.status);
    serde_json::from_str(&said).with_context(|| format!("{command:?} printed {said:?} {complaint}"))
}

fn output_of(command: &mut Command, input: &str) -> Result<std::process::Output> {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("{command:?} does not start"))?;
    let mut stdin = child.stdin.take().context("no standard input")?;
    stdin.write_all(input.as_bytes())?;
    drop(stdin);
    Ok(child.wait_with_output()?)
}
