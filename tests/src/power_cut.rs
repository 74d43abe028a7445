//! A power cut for nats-server. Each server runs under strace, which records every call that changes a file, with its data and
//! its times; the store is put back to what a disk would hold at a chosen moment, nothing else.
//!
//! The model of the disk ([`Disk`]) is the worst that a filesystem may do in order: what was not fsynced is gone, all of it.
//!
//! - Bytes of a file are on disk when an fsync or fdatasync of the file that began after their write has ended, or when they
//!   were written through O_SYNC or O_DSYNC. Length and truncation likewise.
//! - A name (creation, renaming, removal of a file or folder) is on disk when an fsync of its folder that began after it has
//!   ended. With [`Disk::Journal`], as ext4, XFS and btrfs do it, an fsync of a file also puts down the file's own name and the
//!   folders above it; with [`Disk::Posix`] it does not. A removal that was not put down is undone: the file is there again.
//! - A call counts from the time it returned to the server. Torn sectors, a disk that lies about fsync, and bytes that reach the
//!   disk without fsync in some other order than they were written are not in this model.
//!
//! - A syncfs by somebody else (group commit) puts down all that had returned when it began, once it has ended.
//!
//! nats-server is a static Go program, so its calls cannot be taken over by preloading; ptrace sees all of them. That the record
//! is complete is checked: replayed without any loss it has to be the store itself ([`Recording::check`]).

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, ensure};

use crate::{place, wait};

mod record;

mod disk;
pub use disk::Disk;

/// Every call by which the content of a file or a name can change, and those that say which file a descriptor is.
const CALLS: &str = "open,openat,openat2,creat,close,dup,dup2,dup3,fcntl,write,pwrite64,writev,pwritev,pwritev2,lseek,\
                     ftruncate,truncate,fallocate,fsync,fdatasync,sync,syncfs,sync_file_range,rename,renameat,renameat2,\
                     unlink,unlinkat,rmdir,mkdir,mkdirat,link,linkat,symlink,symlinkat,copy_file_range,sendfile";

/// Why nothing can be recorded here; nothing if it can.
pub fn obstacle() -> Option<String> {
    if place::on_path("strace").is_none() {
        return Some("strace is not installed".to_owned());
    }
    let tried = Command::new("strace")
        .args(["-f", "--seccomp-bpf", "-o", "/dev/null", "-e", "trace=openat", "true"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    match tried {
        Ok(status) if status.success() => None,
        Ok(_) | Err(_) => Some("strace may not trace here (ptrace is forbidden, or it is too old)".to_owned()),
    }
}

/// A program to be started instead of nats-server: the same, recorded beside its configuration file.
///
/// # Errors
/// If there is no nats-server, or the program cannot be written.
pub fn recorded_nats_server(folder: &Path) -> Result<PathBuf> {
    let server = place::nats_server()?;
    let server = server.to_str().context("a path of UTF-8")?;
    let program = folder.join("recorded-nats-server");
    let text = format!(
        "#!/bin/sh\n# The tracer is a grandchild, so that this process becomes nats-server itself.\n\
         [ \"$1\" = -c ] || exec '{server}' \"$@\"\n\
         exec strace -D -f --seccomp-bpf -q -ttt -T -xx -s 2097152 -e signal=kill -e trace={CALLS} \\\n    \
         -o \"${{2%.conf}}.calls\" '{server}' \"$@\"\n"
    );
    std::fs::write(&program, text)?;
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o700))?;
    Ok(program)
}

/// What one server did to its store.
pub struct Recording {
    store: PathBuf,
    record: record::Record,
    /// When others synced the whole filesystem: from when to when.
    syncs: Vec<(Duration, Duration)>,
}

/// Records when postrider's thread for group commit syncs, beside the servers' files: `up` has this process id. Nothing to record
/// where there is none, and nats-server calls fsync itself.
///
/// # Errors
/// If it cannot be traced.
pub fn record_syncs(up: u32, data: &Path) -> Result<Option<Child>> {
    let threads = std::fs::read_dir(format!("/proc/{up}/task"))?.collect::<std::io::Result<Vec<_>>>()?;
    let named = |task: &&std::fs::DirEntry| {
        std::fs::read_to_string(task.path().join("comm")).is_ok_and(|name| name.trim_end() == "group-commit")
    };
    let Some(thread) = threads.iter().find(named).map(std::fs::DirEntry::file_name) else { return Ok(None) };
    let file = data.join("syncs");
    let tracer = Command::new("strace")
        .args(["-q", "-ttt", "-T", "-e", "signal=none", "-e", "trace=syncfs", "-o"])
        .arg(&file)
        .arg("-p")
        .arg(thread)
        .stderr(Stdio::null())
        .spawn()?;
    wait::until("a traced sync", || Ok(file.metadata().ok().filter(|file| file.len() > 0)))?;
    Ok(Some(tracer))
}

impl Recording {
    /// Reads the record of the server called `name` in a data folder, once the server is dead and the tracer has written all.
    ///
    /// # Errors
    /// If the record does not come to its end, or holds what it should not.
    pub fn read(data: &Path, name: &str) -> Result<Self> {
        let file = data.join(format!("{name}.calls"));
        let text = wait::until("the end of the record", || {
            let text = std::fs::read_to_string(&file).with_context(|| file.display().to_string())?;
            let first = text.split(' ').next().unwrap_or_default();
            let last = text.trim_end().lines().last().unwrap_or_default();
            // The process itself is the last of its threads to go.
            Ok((last.starts_with(&format!("{first} ")) && last.contains("+++ killed by")).then_some(text))
        })?;
        let store = data.canonicalize()?.join(name);
        let record = record::Record::parse(&text).with_context(|| file.display().to_string())?;
        let syncs = match std::fs::read_to_string(data.join("syncs")) {
            Ok(text) => record::spans(&text)?,
            Err(_) => Vec::new(),
        };
        Ok(Self { store, record, syncs })
    }

    /// Whether the record, replayed without loss, is the store. Files that a call was changing when the server died are left
    /// out: how far it came is not known.
    ///
    /// # Errors
    /// Names the first file that differs.
    pub fn check(&self) -> Result<()> {
        let open = self.record.unfinished_files();
        let recorded = disk::replay(&self.record, &self.store, None, None, Disk::Live)?;
        let found = disk::Tree::read(&self.store)?;
        for path in recorded.files.keys().chain(found.files.keys()) {
            let is_open = open.contains(&self.store.join(path));
            let (is, should) = (found.files.get(path), recorded.files.get(path));
            let sizes = (is.map(Vec::len), should.map(Vec::len));
            ensure!(
                is_open || is == should,
                "the record of {} is not whole: {path:?} has {sizes:?} bytes",
                self.store.display()
            );
        }
        Ok(())
    }

    /// Puts the store back to what the disk held at this moment.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn restore(&self, moment: SystemTime, disk: Disk) -> Result<()> {
        let since = moment.duration_since(SystemTime::UNIX_EPOCH)?;
        // What had been written when the last of the syncs that had ended began.
        let all_down = self.syncs.iter().filter(|(_, ended)| *ended <= since).map(|(began, _)| *began).max();
        let tree = disk::replay(&self.record, &self.store, Some(since), all_down, disk)?;
        if self.store.exists() {
            std::fs::remove_dir_all(&self.store)?;
        }
        tree.write(&self.store)
    }
}
