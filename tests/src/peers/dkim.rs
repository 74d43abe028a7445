//! The opinion of dkimpy on a message's signatures.

use std::process::Command;

use anyhow::Result;
use serde::Deserialize;
use tempfile::NamedTempFile;

use crate::place;

use super::{json_of, packaged_python};

/// One signature.
#[derive(Clone, Debug, Deserialize)]
pub struct Signature {
    /// Whether it verifies.
    pub valid: bool,
    /// Why not.
    pub why: Option<String>,
    /// `d=`
    pub domain: String,
    /// `s=`
    pub selector: String,
    /// `a=`
    pub algorithm: String,
    /// `h=`, in lower case.
    pub headers: Vec<String>,
}

#[derive(Deserialize)]
struct Verified {
    signatures: Vec<Signature>,
}

/// Verifies all signatures, with the one TXT record `name` = `value` in the DNS.
///
/// # Errors
/// If dkimpy does not run.
pub fn verify_dkim(message: &[u8], name: &str, value: &str) -> Result<Vec<Signature>> {
    let file = NamedTempFile::new()?;
    std::fs::write(file.path(), message)?;
    let mut command = Command::new(packaged_python()?);
    command.arg(place::peer_script("verify_dkim.py")).arg(file.path()).args([name, value]);
    Ok(json_of::<Verified>(&mut command, "")?.signatures)
}
