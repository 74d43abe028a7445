//! One frame of `top`: sums at the head, the lines, the keys at the foot. Fits into 80 columns.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout};
use ratatui::style::{Modifier, Style};
use ratatui::text::Line as Text;
use ratatui::widgets::{Cell, Paragraph, Row, Table};

use super::rows::{Group, Line, Screen, Sort};
use crate::client::output::printable;
use crate::client::time;

/// Lines of a frame that are no rows: two above, the heading, one below.
pub(super) const AROUND: u16 = 4;

pub(super) const NARROWEST: u16 = 60;

pub(super) fn draw(frame: &mut Frame<'_>, screen: &mut Screen) {
    let areas = Layout::vertical([Constraint::Length(2), Constraint::Fill(1), Constraint::Length(1)]);
    let [head, body, foot] = areas.areas(frame.area());
    let lines = screen.lines();
    frame.render_widget(Paragraph::new(vec![Text::from(sums(screen, &lines)), Text::from(state(screen))]), head);
    let height = usize::from(body.height.saturating_sub(1));
    let first = screen.first(lines.len(), height);
    frame.render_widget(table(&lines, first, height, body.width, screen), body);
    let keys = if screen.typing() {
        format!("filter: {}_", screen.filter)
    } else {
        "q quit  Tab group  d depth  o oldest  r rate  f deferred  n name  / filter".to_owned()
    };
    frame.render_widget(Paragraph::new(keys).style(Style::new().add_modifier(Modifier::DIM)), foot);
}

fn sums(screen: &Screen, lines: &[Line]) -> String {
    let Some(summary) = screen.summary() else { return "asking ...".to_owned() };
    let sum = |of: fn(&Line) -> u64| lines.iter().map(of).sum::<u64>();
    let at = time::rfc3339(summary.time.as_ref());
    let mut text = format!(
        "{}  depth {}  in flight {}  in {}/s  out {}/s  deferred {}/s",
        at.get(11..19).unwrap_or_default(),
        short(sum(|line| line.depth)),
        short(sum(|line| line.in_flight)),
        rate(sum(|line| line.minute.accepted)),
        rate(sum(|line| line.minute.delivered)),
        rate(sum(|line| line.minute.deferred)),
    );
    if let Some(intake @ 1..) = summary.intake {
        text.push_str(&format!("  intake {}", short(intake)));
    }
    if let Some(dead @ 1..) = summary.dead {
        text.push_str(&format!("  dead {}", short(dead)));
    }
    text
}

fn state(screen: &Screen) -> String {
    if let Some(why) = screen.failure() {
        return format!("NOT CURRENT: {}", printable(why));
    }
    let Some(summary) = screen.summary() else { return String::new() };
    if !summary.silent_members.is_empty() {
        return format!("did not answer: {}", summary.silent_members.join(", "));
    }
    if summary.answered_members.is_empty() {
        return "no delivery process is alive: nothing is being sent".to_owned();
    }
    let filter = if screen.filter.is_empty() { String::new() } else { format!("  filter: {}", screen.filter) };
    let group = match screen.group {
        Group::All => "site and tenant",
        Group::Site => "site",
        Group::Tenant => "tenant",
    };
    format!("{} delivery  by {group}  rates of the last minute{filter}", summary.answered_members.len())
}

fn table<'a>(lines: &[Line], first: usize, height: usize, width: u16, screen: &Screen) -> Table<'a> {
    // In 80 columns the reason needs the room more than long names do.
    let (site, tenant) = if width < 100 { (16, 10) } else { (28, 16) };
    let mut columns: Vec<(&str, Constraint, Option<Sort>)> = Vec::new();
    if screen.group != Group::Tenant {
        columns.push(("SITE", Constraint::Max(site), Some(Sort::Name)));
    }
    if screen.group != Group::Site {
        columns.push(("TENANT", Constraint::Max(tenant), None));
    }
    if screen.group == Group::All {
        columns.push(("C", Constraint::Length(1), None));
    }
    columns.extend([
        ("DEPTH", Constraint::Length(6), Some(Sort::Depth)),
        ("FLY", Constraint::Length(4), None),
        ("IN/s", Constraint::Length(5), None),
        ("OUT/s", Constraint::Length(5), Some(Sort::Rate)),
        ("DEF/s", Constraint::Length(5), Some(Sort::Deferred)),
        ("OLDEST", Constraint::Length(7), Some(Sort::Oldest)),
        ("WHY IT WAITS", Constraint::Fill(1), None),
    ]);
    let heading = columns.iter().map(|(name, _, sort)| {
        let sorted = *sort == Some(screen.sort);
        Cell::from((*name).to_owned()).style(if sorted {
            Style::new().add_modifier(Modifier::REVERSED)
        } else {
            Style::new()
        })
    });
    let heading = Row::new(heading.collect::<Vec<_>>()).style(Style::new().add_modifier(Modifier::BOLD));
    let rows = lines.iter().skip(first).take(height).map(|line| Row::new(cells(line, screen.group)));
    Table::new(rows.collect::<Vec<_>>(), columns.iter().map(|(_, width, _)| *width)).header(heading).column_spacing(1)
}

fn cells(line: &Line, group: Group) -> Vec<String> {
    let mut cells = Vec::new();
    if group != Group::Tenant {
        cells.push(printable(&line.site));
    }
    if group != Group::Site {
        cells.push(printable(&line.tenant));
    }
    if group == Group::All {
        cells.push(line.class.chars().take(1).collect());
    }
    let right = |text: String, width: usize| format!("{text:>width$}");
    let oldest = line.oldest_secs.map(|secs| time::span(std::time::Duration::from_secs(secs)));
    cells.extend([
        right(short(line.depth), 6),
        right(short(line.in_flight), 4),
        right(rate(line.minute.accepted), 5),
        right(rate(line.minute.delivered), 5),
        right(rate(line.minute.deferred), 5),
        right(oldest.unwrap_or_default(), 7),
        line.reason(),
    ]);
    cells
}

/// A count in at most five characters: `12345`, `123k`, `1.2M`.
fn short(count: u64) -> String {
    match count {
        0..100_000 => count.to_string(),
        100_000..1_000_000 => format!("{}k", count / 1_000),
        1_000_000..100_000_000 => format!("{}.{}M", count / 1_000_000, count % 1_000_000 / 100_000),
        _ => format!("{}M", count / 1_000_000),
    }
}

/// So many in a minute, as so many a second.
fn rate(in_a_minute: u64) -> String {
    match in_a_minute {
        0 => "0".to_owned(),
        1..600 => format!("{}.{}", in_a_minute / 60, in_a_minute % 60 / 6),
        _ => short(in_a_minute / 60),
    }
}

#[cfg(test)]
mod tests {
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    use super::super::rows::tests::screen;
    use super::*;

    fn shown(width: u16, height: u16, screen: &mut Screen) -> Vec<String> {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal.draw(|frame| draw(frame, screen)).unwrap();
        let buffer = terminal.backend().buffer();
        let lines = buffer.content().chunks(usize::from(width));
        lines.map(|line| line.iter().map(|cell| cell.symbol()).collect::<String>().trim_end().to_owned()).collect()
    }

    #[test]
    fn a_frame_of_eighty_columns_shows_who_waits_how_long_and_why() {
        let lines = shown(80, 24, &mut screen());
        assert_eq!(lines[0], "02:46:40  depth 85  in flight 3  in 4.5/s  out 3.0/s  deferred 0.3/s  dead 3");
        assert!(lines[2].starts_with("SITE") && lines[2].contains("WHY IT WAITS"), "{lines:#?}");
        let words: Vec<&str> = lines[3].split_whitespace().collect();
        assert_eq!(words, ["google", "acme", "b", "73", "1", "1.5", "1.0", "0.1", "1m", "rate-limit", "2"]);
        assert!(lines[23].starts_with("q quit"));
    }

    #[test]
    fn a_failed_look_says_so_and_keeps_what_was_seen() {
        let mut screen = screen();
        screen.fail("the queue does not answer");
        let lines = shown(80, 10, &mut screen);
        assert_eq!(lines[1], "NOT CURRENT: the queue does not answer");
        assert!(lines[3].starts_with("google"));
    }

    #[test]
    fn numbers_stay_short() {
        assert_eq!([99_999, 123_456, 1_250_000, 250_000_000].map(short), ["99999", "123k", "1.2M", "250M"]);
        assert_eq!([0, 6, 90, 600, 60_000_000].map(rate), ["0", "0.1", "1.5", "10", "1.0M"]);
    }
}
