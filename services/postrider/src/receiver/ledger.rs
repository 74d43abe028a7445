//! The ledger: one JSON object a line for each accepted (message, recipient). One thread writes for all sessions, many
//! entries in one write; an entry is in the file when [`Ledger::append`] returns. Nothing is ever changed or taken out.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::net::IpAddr;
use std::path::Path;

use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot};

/// How many sessions can wait for the writer; more wait to be let in.
const QUEUE: usize = 4096;
/// A write is not made longer than this by further entries.
const LONGEST_WRITE_BYTES: usize = 1 << 20;

/// One line of the ledger.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LedgerLine {
    /// The moment the message was complete, RFC 3339 in UTC.
    pub time: String,
    /// The header field `X-Token`, else `Message-ID`, else empty.
    pub token: String,
    /// The envelope sender, empty for `<>`.
    pub mail_from: String,
    /// The recipient.
    pub rcpt_to: String,
    /// The address it came from.
    pub source: IpAddr,
    /// The number of the connection, from 1 at each start.
    pub connection: u64,
    /// Whether the connection was encrypted.
    pub tls: bool,
    /// The size of the whole message in bytes.
    pub bytes: usize,
    /// SHA-256 of what follows the header's empty line, in hexadecimal: added header fields do not change it.
    pub body_sha256: String,
    /// The file's name in the store, if there is a store.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
}

struct Entry {
    lines: Vec<u8>,
    written: oneshot::Sender<Result<(), io::ErrorKind>>,
}

/// The way to the writer. It ends, with all entries written, when the last of these is dropped.
pub(super) struct Ledger {
    entries: mpsc::Sender<Entry>,
}

impl Ledger {
    /// Opens or makes the file and starts the writer.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().append(true).create(true).open(path)?;
        let (entries, queue) = mpsc::channel(QUEUE);
        std::thread::Builder::new().name("ledger".to_owned()).spawn(move || write_all(file, queue))?;
        Ok(Self { entries })
    }

    /// Writes these lines together; they are in the file (not necessarily on the disk) when this returns.
    pub(super) async fn append(&self, lines: &[LedgerLine]) -> io::Result<()> {
        let mut text = Vec::with_capacity(lines.len() * 320);
        for line in lines {
            serde_json::to_writer(&mut text, line)?;
            text.push(b'\n');
        }
        let gone = |()| io::Error::other("the ledger's writer has ended");
        let (written, answer) = oneshot::channel();
        self.entries.send(Entry { lines: text, written }).await.map_err(|_| gone(()))?;
        answer.await.map_err(|_| gone(()))?.map_err(io::Error::from)
    }
}

fn write_all(mut file: File, mut queue: mpsc::Receiver<Entry>) {
    let mut text = Vec::new();
    let mut waiting = Vec::new();
    while let Some(first) = queue.blocking_recv() {
        text.clear();
        let mut next = Some(first);
        while let Some(entry) = next {
            text.extend_from_slice(&entry.lines);
            waiting.push(entry.written);
            next = if text.len() < LONGEST_WRITE_BYTES { queue.try_recv().ok() } else { None };
        }
        let result = file.write_all(&text);
        if let Err(error) = &result {
            tracing::error!(%error, "receiver: the ledger cannot be written; messages are refused for now");
        }
        let result = result.map_err(|error| error.kind());
        for written in waiting.drain(..) {
            // A session that is gone needs no answer.
            written.send(result).unwrap_or_default();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(token: usize) -> LedgerLine {
        LedgerLine {
            time: "2026-11-22T00:00:00.000Z".to_owned(),
            token: token.to_string(),
            mail_from: String::new(),
            rcpt_to: "a@b.example".to_owned(),
            source: IpAddr::from([127, 0, 0, 1]),
            connection: 1,
            tls: false,
            bytes: 3,
            body_sha256: String::new(),
            file: None,
        }
    }

    #[tokio::test]
    async fn what_was_appended_is_in_the_file_whole_and_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ledger");
        let ledger = Ledger::open(&path).unwrap();
        futures_util::future::try_join_all((0..200).map(|token| {
            let ledger = &ledger;
            async move { ledger.append(&[line(token), line(token + 1000)]).await }
        }))
        .await
        .unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        let mut tokens: Vec<usize> =
            text.lines().map(|line| serde_json::from_str::<LedgerLine>(line).unwrap().token.parse().unwrap()).collect();
        tokens.sort_unstable();
        assert_eq!(tokens, (0..200).chain(1000..1200).collect::<Vec<_>>());
    }

    #[tokio::test]
    async fn a_ledger_is_appended_to() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ledger");
        for token in 0..2 {
            Ledger::open(&path).unwrap().append(&[line(token)]).await.unwrap();
        }
        assert_eq!(std::fs::read_to_string(&path).unwrap().lines().count(), 2);
    }
}
