//! Results of a comparison: medians over its turns, ratios, and how they are printed.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::Serialize;

use super::figures::{median, ratio, shown};
use super::system::Peer;
use super::turn::Turn;

/// All turns with one size of message.
#[derive(Serialize)]
pub struct Results {
    /// What was done, in words.
    pub title: String,
    /// Every turn.
    pub turns: Vec<Turn>,
    /// The medians.
    pub medians: Vec<Figure>,
    #[serde(skip)]
    peers: Vec<Peer>,
}

/// One figure: medians by peer, and the ratios of ours to Postfix's.
#[derive(Serialize)]
pub struct Figure {
    /// What it is, with its unit.
    pub name: &'static str,
    /// By peer.
    pub medians: BTreeMap<String, Option<f64>>,
    /// Ours by Postfix's, by peer.
    pub ratios: BTreeMap<String, Option<f64>>,
}

type Reading = fn(&Turn) -> Option<f64>;

/// What is printed, and whether a ratio says anything.
const FIGURES: [(&str, Reading, bool); 10] = [
    ("accepted, messages/s", |turn| Some(turn.accept_rate), true),
    ("end to end, messages/s", |turn| Some(turn.end_to_end_rate), true),
    ("end of data to 250, p50 ms", |turn| turn.accept_p50_ms, true),
    ("end of data to 250, p99 ms", |turn| turn.accept_p99_ms, true),
    ("250 to receiver, p50 ms", |turn| turn.latency_p50_ms, true),
    ("250 to receiver, p99 ms", |turn| turn.latency_p99_ms, true),
    ("CPU ms per 1,000 messages", |turn| turn.cpu_ms_per_1000, true),
    ("peak memory, MiB (PSS)", |turn| turn.peak_pss_mib, true),
    ("peak memory, MiB (RSS)", |turn| turn.peak_rss_mib, true),
    ("CPU taken by others, %", |turn| Some(turn.others_share * 100.0), false),
];

impl Results {
    /// Sums up.
    pub fn new(title: String, peers: &[Peer], turns: Vec<Turn>) -> Self {
        let peers = peers.to_vec();
        let of = |peer: Peer, read: Reading| {
            let values: Vec<f64> = turns.iter().filter(|turn| turn.peer == peer).filter_map(read).collect();
            median(&values)
        };
        let figure = |(name, read, compared): (&'static str, Reading, bool)| {
            let theirs = of(Peer::Postfix, read);
            let ours =
                peers.iter().filter(|peer| compared && peers.contains(&Peer::Postfix) && **peer != Peer::Postfix);
            Figure {
                name,
                medians: peers.iter().map(|peer| (peer.to_string(), of(*peer, read))).collect(),
                ratios: ours.map(|peer| (peer.to_string(), ratio(of(*peer, read), theirs))).collect(),
            }
        };
        let medians = FIGURES.into_iter().map(figure).collect();
        Self { title, turns, medians, peers }
    }

    /// As a Markdown table.
    pub fn table(&self) -> String {
        let mut text = format!("{}\n\n", self.title);
        let names: Vec<String> = self.peers.iter().map(ToString::to_string).collect();
        let against = self.medians.first().map(|figure| &figure.ratios);
        let ratios: Vec<&String> =
            names.iter().filter(|name| against.is_some_and(|ratios| ratios.contains_key(*name))).collect();
        let mut head = vec![String::new()];
        head.extend(names.iter().cloned());
        head.extend(ratios.iter().map(|name| format!("{name} / postfix")));
        let mut rows = vec![head];
        for figure in &self.medians {
            let mut row = vec![figure.name.to_owned()];
            row.extend(names.iter().map(|name| shown(figure.medians.get(name).copied().flatten())));
            row.extend(
                ratios.iter().map(|name| figure.ratios.get(*name).map_or_else(String::new, |ratio| shown(*ratio))),
            );
            rows.push(row);
        }
        text.push_str(&markdown(&rows));
        for turn in self.turns.iter().filter(|turn| turn.repeats + turn.foreign + turn.deferred > 0) {
            writeln!(
                text,
                "\n{}: {} messages arrived more than once, {} were not of this turn, {} answers were 4xx and tried again",
                turn.peer, turn.repeats, turn.foreign, turn.deferred
            )
            .ok();
        }
        text
    }
}

/// A table whose first row is its head; all columns but the first are numbers.
pub fn markdown(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |at: usize| {
        rows.iter().filter_map(|row| row.get(at)).map(|cell| cell.chars().count()).max().unwrap_or(0).max(4)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let line = |row: &[String]| -> String {
        let cell = |(at, width): (usize, &usize)| {
            let text = row.get(at).map_or("", String::as_str);
            if at == 0 { format!(" {text:<width$} |") } else { format!(" {text:>width$} |") }
        };
        widths.iter().enumerate().map(cell).collect()
    };
    let mut text = String::new();
    for (at, row) in rows.iter().enumerate() {
        writeln!(text, "|{}", line(row)).ok();
        if at == 0 {
            let rule = |(at, width): (usize, &usize)| {
                if at == 0 { format!(" {} |", "-".repeat(*width)) } else { format!(" {}: |", "-".repeat(width - 1)) }
            };
            writeln!(text, "|{}", widths.iter().enumerate().map(rule).collect::<String>()).ok();
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_markdown_with_its_numbers_to_the_right() {
        let rows = [["", "ours"], ["rate", "12"]].map(|row| row.map(str::to_owned).to_vec());
        assert_eq!(markdown(&rows), "|      | ours |\n| ---- | ---: |\n| rate |   12 |\n");
    }
}
