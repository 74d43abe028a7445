//! What `top` shows: rows grouped, sorted and filtered, and what was typed. Pure.

use std::collections::BTreeMap;

use clap::ValueEnum;
use postrider_model::Timestamp;
use postrider_proto::control::v1 as api;

use crate::client::time;

/// What comes first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Sort {
    /// The deepest queue
    #[default]
    Depth,
    /// The oldest mail
    Oldest,
    /// The most deliveries
    Rate,
    /// The most deferrals
    Deferred,
    /// By name
    Name,
}

/// What a line stands for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Group {
    /// A tenant's mail of one class for a site
    #[default]
    All,
    /// A site
    Site,
    /// A tenant
    Tenant,
}

/// A line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) site: String,
    pub(super) tenant: String,
    pub(super) class: String,
    pub(super) depth: u64,
    pub(super) in_flight: u64,
    pub(super) minute: api::MinuteCounts,
    pub(super) oldest_secs: Option<u64>,
    /// By why, the most common first.
    pub(super) reasons: Vec<(String, u64)>,
}

impl Line {
    pub(super) fn reason(&self) -> String {
        let told: Vec<String> = self.reasons.iter().map(|(reason, count)| format!("{reason} {count}")).collect();
        told.join(", ")
    }

    fn add(&mut self, row: &api::QueueRow, now: Option<Timestamp>) {
        self.depth += row.ready + row.in_flight + row.waiting.iter().map(|wait| wait.count).sum::<u64>();
        self.in_flight += row.in_flight;
        let minute = row.minute.unwrap_or_default();
        self.minute.accepted += minute.accepted;
        self.minute.delivered += minute.delivered;
        self.minute.deferred += minute.deferred;
        self.minute.failed += minute.failed;
        let oldest = time::moment(row.oldest_accept_time.as_ref()).zip(now).map(|(oldest, now)| now.since(oldest));
        self.oldest_secs = self.oldest_secs.max(oldest.map(|age| age.as_secs()));
        for wait in &row.waiting {
            match self.reasons.iter_mut().find(|(reason, _)| *reason == wait.reason) {
                Some((_, count)) => *count += wait.count,
                None => self.reasons.push((wait.reason.clone(), wait.count)),
            }
        }
    }
}

/// What is shown, and how.
pub(super) struct Screen {
    summary: Option<api::QueueSummary>,
    failure: Option<String>,
    pub(super) sort: Sort,
    pub(super) turned: bool,
    pub(super) group: Group,
    pub(super) filter: String,
    typing: bool,
    top: usize,
}

impl Screen {
    pub(super) fn new(sort: Sort, group: Group, filter: String) -> Self {
        Self { summary: None, failure: None, sort, turned: false, group, filter, typing: false, top: 0 }
    }

    pub(super) fn take(&mut self, summary: api::QueueSummary) {
        self.summary = Some(summary);
        self.failure = None;
    }

    /// The last look failed: what was seen before stays.
    pub(super) fn fail(&mut self, why: &str) {
        self.failure = Some(why.to_owned());
    }

    pub(super) fn is_blank(&self) -> bool {
        self.summary.is_none()
    }

    pub(super) fn summary(&self) -> Option<&api::QueueSummary> {
        self.summary.as_ref()
    }

    pub(super) fn failure(&self) -> Option<&str> {
        self.failure.as_deref()
    }

    pub(super) fn typing(&self) -> bool {
        self.typing
    }

    pub(super) fn start_typing(&mut self) {
        self.typing = true;
    }

    pub(super) fn stop_typing(&mut self) {
        self.typing = false;
    }

    pub(super) fn type_in(&mut self, letter: char) {
        self.filter.push(letter);
        self.top = 0;
    }

    pub(super) fn erase(&mut self) {
        self.filter.pop();
    }

    pub(super) fn clear_filter(&mut self) {
        self.filter.clear();
    }

    pub(super) fn sort_by(&mut self, sort: Sort) {
        self.turned = self.sort == sort && !self.turned;
        self.sort = sort;
        self.top = 0;
    }

    pub(super) fn group_next(&mut self) {
        self.group = match self.group {
            Group::All => Group::Site,
            Group::Site => Group::Tenant,
            Group::Tenant => Group::All,
        };
        self.top = 0;
    }

    pub(super) fn scroll(&mut self, by: isize) {
        self.top = self.top.saturating_add_signed(by);
    }

    /// The first line to show, of `all` lines in a window of `height`.
    pub(super) fn first(&mut self, all: usize, height: usize) -> usize {
        self.top = self.top.min(all.saturating_sub(height));
        self.top
    }

    /// All lines, in order.
    pub(super) fn lines(&self) -> Vec<Line> {
        let Some(summary) = &self.summary else { return Vec::new() };
        let now = time::moment(summary.time.as_ref());
        let mut lines: BTreeMap<(String, String, String), Line> = BTreeMap::new();
        for row in &summary.rows {
            let (site, tenant, class) = match self.group {
                Group::All => (row.site.clone(), row.tenant.clone(), row.class.clone()),
                Group::Site => (row.site.clone(), String::new(), String::new()),
                Group::Tenant => (String::new(), row.tenant.clone(), String::new()),
            };
            let line = lines.entry((site.clone(), tenant.clone(), class.clone())).or_insert_with(|| Line {
                site,
                tenant,
                class,
                ..Line::default()
            });
            line.add(row, now);
        }
        let wanted = self.filter.to_lowercase();
        let mut lines: Vec<Line> = lines
            .into_values()
            .map(|mut line| {
                line.reasons.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
                line
            })
            .filter(|line| {
                let text = format!("{} {} {} {}", line.site, line.tenant, line.class, line.reason());
                text.to_lowercase().contains(&wanted)
            })
            .collect();
        // The sort is stable, and names are in order already.
        match self.sort {
            Sort::Depth => lines.sort_by_key(|line| std::cmp::Reverse(line.depth)),
            Sort::Oldest => lines.sort_by_key(|line| std::cmp::Reverse(line.oldest_secs)),
            Sort::Rate => lines.sort_by_key(|line| std::cmp::Reverse(line.minute.delivered)),
            Sort::Deferred => lines.sort_by_key(|line| std::cmp::Reverse(line.minute.deferred)),
            Sort::Name => {}
        }
        if self.turned {
            lines.reverse();
        }
        lines
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::client::top) fn row(site: &str, tenant: &str, ready: u64, age: i64) -> api::QueueRow {
        api::QueueRow {
            site: site.into(),
            tenant: tenant.into(),
            class: "bulk".into(),
            ready,
            in_flight: 1,
            waiting: vec![api::WaitCount { reason: "rate-limit".into(), count: 2 }],
            oldest_accept_time: Some(prost_types::Timestamp { seconds: 10_000 - age, nanos: 0 }),
            minute: Some(api::MinuteCounts { accepted: 90, delivered: 60, deferred: 6, failed: 0 }),
        }
    }

    pub(in crate::client::top) fn screen() -> Screen {
        let mut screen = Screen::new(Sort::Depth, Group::All, String::new());
        screen.take(api::QueueSummary {
            rows: vec![
                row("example.net", "globex", 5, 300),
                row("google", "acme", 70, 60),
                row("google", "globex", 1, 9),
            ],
            time: Some(prost_types::Timestamp { seconds: 10_000, nanos: 0 }),
            answered_members: vec!["delivery-0".into()],
            dead: Some(3),
            ..Default::default()
        });
        screen
    }

    fn names(screen: &Screen) -> Vec<String> {
        screen.lines().iter().map(|line| format!("{} {} {}", line.site, line.tenant, line.depth)).collect()
    }

    #[test]
    fn lines_are_sorted_as_asked_and_the_other_way_round() {
        let mut screen = screen();
        assert_eq!(names(&screen), ["google acme 73", "example.net globex 8", "google globex 4"]);
        screen.sort_by(Sort::Depth);
        assert_eq!(names(&screen)[0], "google globex 4");
        screen.sort_by(Sort::Oldest);
        assert_eq!(names(&screen)[0], "example.net globex 8");
        screen.sort_by(Sort::Name);
        assert_eq!(names(&screen)[0], "example.net globex 8");
    }

    #[test]
    fn groups_add_up() {
        let mut screen = screen();
        screen.group_next();
        assert_eq!(names(&screen), ["google  77", "example.net  8"]);
        screen.group_next();
        assert_eq!(names(&screen), [" acme 73", " globex 12"]);
        assert_eq!(screen.lines()[1].oldest_secs, Some(300));
        assert_eq!(screen.lines()[1].minute.delivered, 120);
    }

    #[test]
    fn a_filter_leaves_what_holds_it() {
        let mut screen = screen();
        "GLOB".chars().for_each(|letter| screen.type_in(letter));
        assert_eq!(names(&screen).len(), 2);
        screen.erase();
        screen.clear_filter();
        assert_eq!(names(&screen).len(), 3);
    }

    #[test]
    fn scrolling_ends_with_the_lines() {
        let mut screen = screen();
        screen.scroll(100);
        assert_eq!(screen.first(3, 2), 1);
        screen.scroll(isize::MIN);
        assert_eq!(screen.first(3, 2), 0);
    }
}
