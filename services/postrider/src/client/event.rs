//! `postrider event`.

use clap::{Args, Subcommand, ValueEnum};
use postrider_proto::control::v1 as api;
use tonic::Streaming;

use super::connection::Session;
use super::output::{Format, Output};
use super::time::{Moment, parse_moment};
use super::{EXIT_CODES, Failure, examples};

mod row;
use row::{COLUMNS, Row};

mod line;

/// What can be done with events.
#[derive(Debug, Subcommand)]
pub enum EventVerb {
    /// The latest events, one a line; with -f all that come, until Ctrl-C
    #[command(after_help = examples(&[
        "event tail",
        "event tail -f --tenant acme --event deferred --event bounced",
        "event tail --since 1h -o json | jq -r .recipient",
    ]))]
    Tail {
        /// Go on with those that come
        #[arg(short, long)]
        follow: bool,
        /// Begin with those since then [default: 10m; with -f: now]
        #[arg(long, value_name = "TIME", value_parser = parse_moment)]
        since: Option<Moment>,
        /// Without -f: at most so many, the latest
        #[arg(short = 'n', long, value_name = "COUNT", default_value_t = 100,
              value_parser = clap::value_parser!(u32).range(1..=100_000))]
        limit: u32,
        /// Which events
        #[command(flatten)]
        filter: Filter,
    },
    /// All events of a span of time, in columns that stay as they are
    #[command(after_help = columns_help())]
    Export {
        /// From: RFC 3339, or how long ago (10m, 2h, 1d)
        #[arg(long, value_name = "TIME", value_parser = parse_moment)]
        since: Moment,
        /// Up to [default: now]
        #[arg(long, value_name = "TIME", value_parser = parse_moment)]
        until: Option<Moment>,
        /// How to write them
        #[arg(long, value_enum, default_value_t, value_name = "FORMAT")]
        format: ExportFormat,
        /// Which events
        #[command(flatten)]
        filter: Filter,
    },
}

/// How exported events are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum ExportFormat {
    /// One JSON object a line
    #[default]
    Ndjson,
    /// RFC 4180 with a heading line
    Csv,
}

/// Which events.
#[derive(Debug, Args)]
pub struct Filter {
    /// Only this tenant's
    #[arg(long, value_name = "TENANT", default_value = "", hide_default_value = true)]
    tenant: String,
    /// Only this class
    #[arg(long, value_name = "CLASS", value_parser = ["transactional", "bulk"])]
    class: Option<String>,
    /// Only this campaign
    #[arg(long, value_name = "CAMPAIGN", default_value = "", hide_default_value = true)]
    campaign: String,
    /// Only this site
    #[arg(long, value_name = "SITE", default_value = "", hide_default_value = true)]
    site: String,
    /// Only this event (repeatable)
    #[arg(long = "event", value_name = "EVENT",
          value_parser = ["accepted", "delivered", "deferred", "moved", "bounced", "expired", "dead"])]
    events: Vec<String>,
    /// Only this recipient
    #[arg(long, value_name = "ADDRESS", default_value = "", hide_default_value = true)]
    to: String,
}

impl From<Filter> for api::EventFilter {
    fn from(filter: Filter) -> Self {
        Self {
            tenant: filter.tenant,
            class: filter.class.unwrap_or_default(),
            campaign: filter.campaign,
            site: filter.site,
            events: filter.events,
            recipient: filter.to,
        }
    }
}

fn columns_help() -> String {
    let mut text = String::from("Columns, in this order; new ones come at the end:\n");
    for (name, meaning) in COLUMNS {
        text.push_str(&format!("  {name:<18} {meaning}\n"));
    }
    text.push_str("\nExamples:\n");
    text.push_str("  postrider event export --since 1d > events.ndjson\n");
    text.push_str("  postrider event export --since 2026-11-21 --until 2026-11-22 --format csv --tenant acme\n");
    text.push_str("  postrider event export --since 1h --event bounced | jq -r .recipient\n\n");
    text.push_str(EXIT_CODES);
    text
}

pub(super) async fn run(verb: EventVerb, session: Session, out: Output) -> Result<(), Failure> {
    let mut client = session.events();
    match verb {
        EventVerb::Tail { follow, since, limit, filter } => {
            let request =
                api::TailEventsRequest { filter: Some(filter.into()), since: since.map(Moment::wire), follow, limit };
            let how = match out.format() {
                Format::Table => Written::Line,
                Format::Json => Written::Json,
                Format::Yaml => Written::Yaml,
            };
            write(client.tail_events(request).await?.into_inner(), how, out).await
        }
        EventVerb::Export { since, until, format, filter } => {
            let request = api::ExportEventsRequest {
                filter: Some(filter.into()),
                since: Some(since.wire()),
                until: until.map(Moment::wire),
            };
            let how = match format {
                ExportFormat::Ndjson => Written::Json,
                ExportFormat::Csv => Written::Csv,
            };
            write(client.export_events(request).await?.into_inner(), how, out).await
        }
    }
}

/// How a stream of events is written.
#[derive(Clone, Copy)]
enum Written {
    Line,
    Json,
    Yaml,
    Csv,
}

async fn write(mut stream: Streaming<api::EventBatch>, how: Written, mut out: Output) -> Result<(), Failure> {
    match how {
        Written::Csv => out.buffered(&row::csv_heading())?,
        Written::Line => out.buffered(&line::heading())?,
        Written::Json | Written::Yaml => {}
    }
    out.flush()?;
    while let Some(batch) = stream.message().await? {
        for event in batch.events {
            let text = match how {
                Written::Line => line::line(&event, out.width()),
                Written::Json => Row::from(event).json()?,
                Written::Yaml => Row::from(event).yaml()?,
                Written::Csv => Row::from(event).csv()?,
            };
            out.buffered(&text)?;
        }
        out.flush()?;
    }
    Ok(())
}
