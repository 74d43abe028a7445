//! A small file system in memory that can fill up and become read-only. Only root may mount one.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

/// What fills it up.
const BALLAST: &str = "ballast";

/// A mounted file system; dropping it unmounts it.
#[derive(Debug)]
pub struct Tmpfs {
    folder: PathBuf,
}

impl Tmpfs {
    /// Mounts one of so many megabytes.
    ///
    /// # Errors
    /// If the system refuses: only root may, and not in every container.
    pub fn mount(folder: &Path, megabytes: u32) -> Result<Self> {
        std::fs::create_dir_all(folder)?;
        run(Command::new("mount").args(["-t", "tmpfs", "-o", &format!("size={megabytes}m"), "tmpfs"]).arg(folder))?;
        Ok(Self { folder: folder.to_path_buf() })
    }

    /// Whether one can be mounted here.
    pub fn is_possible() -> bool {
        tempfile::tempdir().is_ok_and(|folder| Self::mount(&folder.path().join("try"), 1).is_ok())
    }

    /// Takes all the room that is left.
    ///
    /// # Errors
    /// If it cannot be written to at all.
    pub fn fill(&self) -> Result<()> {
        let mut file = std::fs::File::options().create(true).append(true).open(self.folder.join(BALLAST))?;
        for size in [1 << 20, 4096, 1] {
            while file.write_all(&vec![0; size]).is_ok() {}
        }
        Ok(())
    }

    /// Gives the room back.
    ///
    /// # Errors
    /// If there was no ballast.
    pub fn relieve(&self) -> Result<()> {
        std::fs::remove_file(self.folder.join(BALLAST)).context("the ballast")
    }

    /// Read-only, or writable again. Refused while a file in it is open for writing.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn read_only(&self, read_only: bool) -> Result<()> {
        let how = if read_only { "remount,ro" } else { "remount,rw" };
        run(Command::new("mount").args(["-o", how]).arg(&self.folder))
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        // Lazily: whoever still has a file open there lets go of it soon.
        run(Command::new("umount").arg("-l").arg(&self.folder)).ok();
    }
}

fn run(command: &mut Command) -> Result<()> {
    let output = command.output().with_context(|| format!("{command:?}"))?;
    ensure!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr).trim_end());
    Ok(())
}
