//! `postrider top`: the queue as a live table, or one frame of it. Asks control every few seconds; keys sort, group and filter.

use std::io::IsTerminal;
use std::time::Duration;

use clap::Args;
use postrider_proto::control::v1 as api;
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use tokio::time::Instant;

use super::connection::{Connection, Session};
use super::output::{Format, Output};
use super::{EXIT_CODES, Failure};

mod frame;
mod rows;

use rows::{Group, Screen, Sort};

/// The queue as a live table: sites and tenants with rates, depth, oldest, and why it waits
///
/// Rates are of the last minute. Keys: `q` ends; Tab groups by site and tenant, by site, by tenant; `d` sorts by depth, `o` by
/// the oldest, `r` by the rate of deliveries, `f` by the rate of deferrals, `n` by name, again: the other way round; `/` filters
/// by what a line holds, Enter and Escape end that; arrows, PageUp and PageDown scroll.
#[derive(Debug, Args)]
#[command(after_help = format!(
    "Examples:\n  postrider top\n  postrider top --tenant acme --every 5\n  postrider top --once --sort oldest\n\n{EXIT_CODES}"
))]
pub struct TopCommand {
    #[command(flatten)]
    connection: Connection,
    /// Print one frame and end; no terminal is needed
    #[arg(long)]
    once: bool,
    /// Seconds between looks
    #[arg(long, value_name = "SECONDS", default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..=3600))]
    every: u64,
    /// What comes first
    #[arg(long, value_enum, default_value_t)]
    sort: Sort,
    /// What a line stands for
    #[arg(long, value_enum, default_value_t)]
    by: Group,
    /// Only lines that hold this text
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    filter: String,
    /// Only this tenant
    #[arg(long, value_name = "TENANT", default_value = "", hide_default_value = true)]
    tenant: String,
    /// Only this site
    #[arg(long, value_name = "SITE", default_value = "", hide_default_value = true)]
    site: String,
    /// Only this class
    #[arg(long, value_name = "CLASS", value_parser = ["transactional", "bulk"])]
    class: Option<String>,
}

/// How often keys are looked at.
const KEYS: Duration = Duration::from_millis(100);

/// The width of a frame that nobody looks at.
const WIDTH: u16 = 100;

pub(super) async fn run(command: TopCommand) -> Result<(), Failure> {
    let session = command.connection.open().await?;
    let place = session.place();
    let request = api::GetQueueSummaryRequest {
        tenant: command.tenant,
        site: command.site,
        class: command.class.unwrap_or_default(),
        rates: true,
    };
    let mut screen = Screen::new(command.sort, command.by, command.filter);
    let ended = if command.once {
        once(&session, request, &mut screen).await
    } else if std::io::stdout().is_terminal() && std::io::stdin().is_terminal() {
        live(&session, request, &mut screen, Duration::from_secs(command.every)).await
    } else {
        Err(Failure::Usage("top needs a terminal; --once prints one frame without".into()))
    };
    ended.map_err(|failure| place.explain(failure))
}

async fn once(session: &Session, request: api::GetQueueSummaryRequest, screen: &mut Screen) -> Result<(), Failure> {
    screen.take(session.queue().get_queue_summary(request).await?.into_inner());
    let columns = std::env::var("COLUMNS").ok().and_then(|columns| columns.parse().ok()).unwrap_or(WIDTH);
    let height = u16::try_from(screen.lines().len()).unwrap_or(u16::MAX).saturating_add(frame::AROUND);
    let backend = TestBackend::new(columns.clamp(frame::NARROWEST, 500), height.min(10_000));
    let mut terminal = Terminal::new(backend).map_err(|error| Failure::Other(format!("a frame: {error}")))?;
    let drawn = terminal.draw(|area| frame::draw(area, screen));
    drawn.map_err(|error| Failure::Other(format!("a frame: {error}")))?;
    let buffer = terminal.backend().buffer();
    let mut out = Output::new(Format::Table);
    let width = usize::from(buffer.area.width.max(1));
    for line in buffer.content().chunks(width) {
        let text: String = line.iter().map(ratatui::buffer::Cell::symbol).collect();
        out.buffered(&format!("{}\n", text.trim_end()))?;
    }
    out.flush()
}

async fn live(
    session: &Session,
    request: api::GetQueueSummaryRequest,
    screen: &mut Screen,
    every: Duration,
) -> Result<(), Failure> {
    let mut terminal = ratatui::try_init().map_err(Failure::output)?;
    let ended = watch(session, request, screen, every, &mut terminal).await;
    ratatui::restore();
    ended
}

async fn watch(
    session: &Session,
    request: api::GetQueueSummaryRequest,
    screen: &mut Screen,
    every: Duration,
    terminal: &mut ratatui::DefaultTerminal,
) -> Result<(), Failure> {
    let mut client = session.queue();
    let mut asked: Option<Instant> = None;
    loop {
        if asked.is_none_or(|asked| asked.elapsed() >= every) {
            asked = Some(Instant::now());
            match client.get_queue_summary(request.clone()).await {
                Ok(summary) => screen.take(summary.into_inner()),
                // What was seen last stays, under a line that says so.
                Err(status) if !screen.is_blank() => screen.fail(status.message()),
                Err(status) => return Err(status.into()),
            }
        }
        terminal.draw(|area| frame::draw(area, screen)).map_err(Failure::output)?;
        // Keys are waited for on a thread of their own, so that the connection goes on.
        let key = tokio::task::spawn_blocking(|| match event::poll(KEYS) {
            Ok(true) => event::read().map(Some),
            Ok(false) => Ok(None),
            Err(error) => Err(error),
        });
        let key = key.await.map_err(|error| Failure::Other(format!("the keyboard: {error}")))?;
        match key.map_err(Failure::output)? {
            Some(Event::Key(key)) if key.kind == KeyEventKind::Press => {
                if press(screen, key) {
                    return Ok(());
                }
            }
            Some(_) | None => {}
        }
    }
}

/// What a key does. Whether to end.
fn press(screen: &mut Screen, key: KeyEvent) -> bool {
    if key.code == KeyCode::Char('c') && key.modifiers.contains(KeyModifiers::CONTROL) {
        return true;
    }
    if screen.typing() {
        match key.code {
            KeyCode::Enter => screen.stop_typing(),
            KeyCode::Esc => {
                screen.clear_filter();
                screen.stop_typing();
            }
            KeyCode::Backspace => screen.erase(),
            KeyCode::Char(letter) => screen.type_in(letter),
            _ => {}
        }
        return false;
    }
    match key.code {
        KeyCode::Char('q') => return true,
        KeyCode::Tab => screen.group_next(),
        KeyCode::Char('d') => screen.sort_by(Sort::Depth),
        KeyCode::Char('o') => screen.sort_by(Sort::Oldest),
        KeyCode::Char('r') => screen.sort_by(Sort::Rate),
        KeyCode::Char('f') => screen.sort_by(Sort::Deferred),
        KeyCode::Char('n') => screen.sort_by(Sort::Name),
        KeyCode::Char('/') => screen.start_typing(),
        KeyCode::Esc => screen.clear_filter(),
        KeyCode::Down | KeyCode::Char('j') => screen.scroll(1),
        KeyCode::Up | KeyCode::Char('k') => screen.scroll(-1),
        KeyCode::PageDown => screen.scroll(10),
        KeyCode::PageUp => screen.scroll(-10),
        KeyCode::Home => screen.scroll(isize::MIN),
        _ => {}
    }
    false
}
