//! `postrider config`: all configuration out into one document, and a document in.

use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use clap::Subcommand;
use postrider_proto::control::v1 as api;
use serde::Serialize;

use super::connection::Session;
use super::output::{Format, Output, applied};
use super::{Failure, examples};

mod document;
use document::Document;

/// What can be done with the whole configuration.
#[derive(Debug, Subcommand)]
pub enum ConfigVerb {
    /// Print tenants, credentials, domains and routes as one document (YAML, or JSON with -o json)
    ///
    /// Secrets are in it only as MACs, DKIM keys only sealed: they are of use under the same cluster key alone.
    #[command(after_help = examples(&["config export > cluster.yaml", "config export --file backup.yaml"]))]
    Export {
        /// Write to this file (mode 0600) instead of standard output
        #[arg(long, value_name = "FILE")]
        file: Option<PathBuf>,
    },
    /// Make the configuration hold what a document says; doing it twice changes nothing
    #[command(after_help = examples(&[
        "config import cluster.yaml --dry-run",
        "config import cluster.yaml",
        "config import cluster.yaml --prune",
        "config export | postrider config import - --server https://other.example:2090",
    ]))]
    Import {
        /// A document of `config export` (YAML or JSON); -: standard input
        file: PathBuf,
        /// Only say what would change
        #[arg(long)]
        dry_run: bool,
        /// Delete what the document does not hold
        #[arg(long)]
        prune: bool,
    },
}

#[derive(Serialize)]
struct View {
    dry_run: bool,
    changes: Vec<ChangeView>,
}

#[derive(Serialize)]
struct ChangeView {
    action: &'static str,
    kind: String,
    name: String,
    fields: Vec<String>,
}

impl From<api::ConfigChange> for ChangeView {
    fn from(change: api::ConfigChange) -> Self {
        use api::config_change::Action;
        let action = match change.action() {
            Action::Unspecified => "unknown",
            Action::Create => "create",
            Action::Update => "update",
            Action::Delete => "delete",
        };
        Self { action, kind: change.kind, name: change.name, fields: change.fields }
    }
}

pub(super) async fn run(verb: ConfigVerb, session: Session, mut out: Output) -> Result<(), Failure> {
    let mut client = session.config();
    match verb {
        ConfigVerb::Export { file } => {
            let document = Document::from(client.export_config(api::ExportConfigRequest {}).await?.into_inner());
            let text = match out.format() {
                Format::Json => document.to_json()?,
                Format::Table | Format::Yaml => document.to_yaml()?,
            };
            match file {
                Some(path) => write_private(&path, &text),
                None => out.text(&text),
            }
        }
        ConfigVerb::Import { file, dry_run, prune } => {
            let document =
                Document::parse(&read(&file)?).map_err(|why| Failure::Usage(format!("{}: {why}", file.display())))?;
            let document = api::ConfigDocument::try_from(document)
                .map_err(|why| Failure::Usage(format!("{}: {why}", file.display())))?;
            let request = api::ImportConfigRequest { document: Some(document), dry_run, prune };
            let answer = client.import_config(request).await?.into_inner();
            applied(answer.applied.as_ref());
            let changes = answer.changes.into_iter().map(ChangeView::from).collect();
            out.show(&View { dry_run, changes }, |view, page| {
                for change in &view.changes {
                    let mark = match change.action {
                        "create" => '+',
                        "delete" => '-',
                        _ => '~',
                    };
                    let fields = change.fields.join("; ");
                    page.line(&format!("{mark} {:<10}  {}  {fields}", change.kind, change.name));
                }
                page.line(&match (view.changes.len(), view.dry_run) {
                    (0, _) => "nothing to change".to_owned(),
                    (1, true) => "1 change, not made (--dry-run)".to_owned(),
                    (count, true) => format!("{count} changes, not made (--dry-run)"),
                    (1, false) => "1 change made".to_owned(),
                    (count, false) => format!("{count} changes made"),
                });
            })
        }
    }
}

fn read(file: &Path) -> Result<String, Failure> {
    let mut text = String::new();
    let read = if file == Path::new("-") {
        std::io::stdin().lock().read_to_string(&mut text)
    } else {
        std::fs::File::open(file).and_then(|mut file| file.read_to_string(&mut text))
    };
    read.map_err(|source| Failure::File { what: format!("{} cannot be read", file.display()), source })?;
    Ok(text)
}

fn write_private(path: &Path, text: &str) -> Result<(), Failure> {
    std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .map_err(|source| Failure::File { what: format!("{} cannot be written", path.display()), source })
}
