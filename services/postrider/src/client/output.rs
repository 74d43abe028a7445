//! Where client commands print: one writer, one of three formats. Knows nothing of what is printed.

use std::io::{IsTerminal, Write};

use clap::ValueEnum;
use postrider_proto::control::v1::Applied;
use serde::Serialize;

use super::Failure;
use super::table::Table;

/// How a command prints its answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Columns for people
    #[default]
    Table,
    /// One JSON document (of `event tail`: one object a line)
    Json,
    /// One YAML document
    Yaml,
}

/// The standard output of a command.
pub struct Output {
    format: Format,
    out: std::io::BufWriter<std::io::Stdout>,
}

impl Output {
    pub(super) fn new(format: Format) -> Self {
        Self { format, out: std::io::BufWriter::new(std::io::stdout()) }
    }

    pub(super) fn format(&self) -> Format {
        self.format
    }

    /// The widest a table may be: what the terminal holds, or no limit where nobody looks.
    pub(super) fn width(&self) -> Option<usize> {
        if !std::io::stdout().is_terminal() {
            return None;
        }
        let columns = std::env::var("COLUMNS").ok().and_then(|columns| columns.parse().ok());
        Some(columns.unwrap_or(100).max(60))
    }

    /// Prints `view` as the chosen format has it: `table` draws it for people.
    pub(super) fn show<T: Serialize>(&mut self, view: &T, table: impl FnOnce(&T, &mut Page)) -> Result<(), Failure> {
        match self.format {
            Format::Table => {
                let mut page = Page { text: String::new(), width: self.width() };
                table(view, &mut page);
                self.text(&page.text)
            }
            Format::Json => {
                let text = serde_json::to_string_pretty(view).map_err(|e| Failure::Other(format!("as JSON: {e}")))?;
                self.text(&text)?;
                self.text("\n")
            }
            Format::Yaml => {
                let text = serde_yaml_ng::to_string(view).map_err(|e| Failure::Other(format!("as YAML: {e}")))?;
                self.text(&text)
            }
        }
    }

    /// Says that a command without an answer has done its work; scripts read that off the exit code.
    pub(super) fn done(&mut self, line: &str) -> Result<(), Failure> {
        if self.format == Format::Table { self.text(&format!("{line}\n")) } else { Ok(()) }
    }

    /// Prints text as it is, and lets the reader see it.
    pub(super) fn text(&mut self, text: &str) -> Result<(), Failure> {
        self.out.write_all(text.as_bytes()).and_then(|()| self.out.flush()).map_err(Failure::output)
    }

    /// Prints without flushing: for long streams.
    pub(super) fn buffered(&mut self, text: &str) -> Result<(), Failure> {
        self.out.write_all(text.as_bytes()).map_err(Failure::output)
    }

    pub(super) fn flush(&mut self) -> Result<(), Failure> {
        self.out.flush().map_err(Failure::output)
    }
}

/// A page of text for people: lines and tables.
pub struct Page {
    text: String,
    width: Option<usize>,
}

impl Page {
    pub(super) fn line(&mut self, line: &str) {
        self.text.push_str(printable(line).trim_end());
        self.text.push('\n');
    }

    pub(super) fn table(&mut self, table: &Table) {
        self.text.push_str(&table.render(self.width));
    }

    /// Lines of `name  value`, the names of one width; empty values are left out.
    pub(super) fn fields(&mut self, fields: &[(&str, String)]) {
        let shown: Vec<_> = fields.iter().filter(|(_, value)| !value.is_empty()).collect();
        let widest = shown.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
        for (name, value) in shown {
            self.line(&format!("{name:widest$}  {value}"));
        }
    }

    #[cfg(test)]
    pub(super) fn for_test(width: Option<usize>) -> Self {
        Self { text: String::new(), width }
    }

    #[cfg(test)]
    pub(super) fn as_str(&self) -> &str {
        &self.text
    }
}

/// Names the members that do not have a write in force yet.
pub(super) fn applied(applied: Option<&Applied>) {
    let lagging = applied.map(|applied| applied.lagging_members.as_slice()).unwrap_or_default();
    if !lagging.is_empty() {
        remark(&format!(
            "postrider: written, but not in force yet at: {} (they follow as soon as they reach the queue)",
            lagging.join(", ")
        ));
    }
}

/// Text that may come from strangers (headers, replies): nothing in it steers the terminal.
pub(super) fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// Says something beside the answer, on standard error, so that scripts that read the answer are not disturbed.
pub(super) fn remark(text: &str) {
    // Nobody hears it: nothing is lost, the answer itself stands on standard output.
    writeln!(std::io::stderr().lock(), "{text}").ok();
}
