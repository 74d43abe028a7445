//! A child process with its output in a file: ended when it is dropped, its output shown when the test fails.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};

use crate::wait;

/// How long a process may take to end by itself.
const GRACE: Duration = Duration::from_secs(20);
/// How much of its output is shown.
const SHOWN_LINES: usize = 200;

/// A running child.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts `command` with both outputs appended to `log`.
    ///
    /// # Errors
    /// If it does not start.
    pub fn start(name: &str, command: &mut Command, log: &Path) -> Result<Self> {
        let file = File::options().append(true).create(true).open(log).with_context(|| log.display().to_string())?;
        let child = command
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file)
            .spawn()
            .with_context(|| format!("{name} does not start: {command:?}"))?;
        Ok(Self { name: name.to_owned(), child, log: log.to_path_buf() })
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// How it ended, or nothing while it runs.
    ///
    /// # Errors
    /// If the system cannot say.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        Ok(self.child.try_wait()?)
    }

    /// All it has written.
    pub fn output(&self) -> String {
        std::fs::read(&self.log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
    }

    /// Sends a signal: `TERM`, `INT`, `KILL`, `STOP`, `CONT`.
    ///
    /// # Errors
    /// If there is no such process.
    pub fn signal(&self, signal: &str) -> Result<()> {
        signal_to(self.id(), signal)
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// If it goes on for longer than 20 seconds.
    pub fn wait(&mut self) -> Result<ExitStatus> {
        wait::until_within(GRACE, &format!("{} to end", self.name), || Ok(self.child.try_wait()?))
    }

    /// Asks it to stop as Ctrl-C or Kubernetes do (TERM), and waits for its end.
    ///
    /// # Errors
    /// If it does not.
    pub fn stop(&mut self) -> Result<ExitStatus> {
        if let Some(status) = self.ended()? {
            return Ok(status);
        }
        self.signal("TERM")?;
        self.wait()
    }

    /// Ends it with SIGKILL.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn kill(&mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    #[expect(clippy::print_stderr, reason = "the output of a failed test's processes belongs beside its panic")]
    fn show(&self) {
        let output = self.output();
        let lines: Vec<&str> = output.lines().collect();
        let skipped = lines.len().saturating_sub(SHOWN_LINES);
        eprintln!("---- {} wrote ({} lines, {skipped} left out) ----", self.name, lines.len());
        for line in lines.iter().skip(skipped) {
            eprintln!("{line}");
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.show();
        }
        if self.stop().is_err() {
            self.child.kill().ok();
            self.child.wait().ok();
        }
    }
}

/// Sends a signal to a process that a test started.
///
/// # Errors
/// If there is no such process.
pub fn signal_to(id: u32, signal: &str) -> Result<()> {
    let status = Command::new("kill")
        .args(["-s", signal, &id.to_string()])
        .stderr(Stdio::null())
        .status()
        .context("`kill` does not run")?;
    anyhow::ensure!(status.success(), "there is no process {id}");
    Ok(())
}

/// Whether a process of this id exists.
pub fn is_alive(id: u32) -> bool {
    // A zombie has no memory left: its parent has yet to ask.
    std::fs::read_to_string(format!("/proc/{id}/statm")).is_ok_and(|text| !text.starts_with("0 "))
}
