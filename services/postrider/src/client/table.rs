//! Tables for people: columns as wide as they must be, numbers to the right, and one elastic column that gives way when
//! the terminal is narrow. Pure.

use super::output::printable;

/// How a column stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Align {
    /// Words.
    Left,
    /// Numbers and ages.
    Right,
    /// Long text, to the left: cut, with an ellipsis, where the terminal ends.
    Elastic,
}

/// Rows under a heading.
#[derive(Debug)]
pub struct Table {
    columns: Vec<(&'static str, Align)>,
    rows: Vec<Vec<String>>,
}

const GAP: usize = 2;
const NARROWEST: usize = 12;

impl Table {
    pub(super) fn new(columns: &[(&'static str, Align)]) -> Self {
        Self { columns: columns.to_vec(), rows: Vec::new() }
    }

    /// Adds a row; an empty cell is printed as `-`.
    pub(super) fn row<const N: usize>(&mut self, cells: [String; N]) {
        let printed = |cell: String| if cell.is_empty() { "-".to_owned() } else { printable(&cell) };
        self.rows.push(cells.into_iter().map(printed).collect());
    }

    /// The table as lines; `width` bounds the elastic columns.
    pub(super) fn render(&self, width: Option<usize>) -> String {
        let widths = self.widths(width);
        let mut text = String::new();
        let heading: Vec<String> = self.columns.iter().map(|(name, _)| (*name).to_owned()).collect();
        for row in std::iter::once(&heading).chain(&self.rows) {
            let mut line = String::new();
            for ((cell, (_, align)), &width) in row.iter().zip(&self.columns).zip(&widths) {
                if !line.is_empty() {
                    line.push_str(&" ".repeat(GAP));
                }
                match align {
                    Align::Left => line.push_str(&format!("{cell:<width$}")),
                    Align::Right => line.push_str(&format!("{cell:>width$}")),
                    Align::Elastic => line.push_str(&format!("{:<width$}", cut(cell, width))),
                }
            }
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }

    fn widths(&self, bound: Option<usize>) -> Vec<usize> {
        let natural = |column: usize, name: &str| {
            let cells = self.rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
            cells.chain([name.chars().count()]).max().unwrap_or(0)
        };
        let mut widths: Vec<usize> =
            self.columns.iter().enumerate().map(|(column, (name, _))| natural(column, name)).collect();
        let Some(bound) = bound else { return widths };
        let mut excess = (widths.iter().sum::<usize>() + GAP * widths.len().saturating_sub(1)).saturating_sub(bound);
        // The rightmost elastic column gives way first: the most important text stands to the left.
        for (width, (_, align)) in widths.iter_mut().zip(&self.columns).rev() {
            if *align == Align::Elastic && *width > NARROWEST {
                let given = excess.min(*width - NARROWEST);
                *width -= given;
                excess -= given;
            }
        }
        widths
    }
}

fn cut(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    let mut short: String = text.chars().take(width.saturating_sub(1)).collect();
    short.push('…');
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Table {
        let mut table = Table::new(&[("SITE", Align::Left), ("READY", Align::Right), ("WHY", Align::Elastic)]);
        table.row(["google".into(), "12000".into(), "rate-limit 11000, tier (5m) 1000".into()]);
        table.row(["example.net".into(), "1".into(), String::new()]);
        table
    }

    #[test]
    fn words_stand_left_and_numbers_right() {
        assert_eq!(
            sample().render(None),
            "SITE         READY  WHY\n\
             google       12000  rate-limit 11000, tier (5m) 1000\n\
             example.net      1  -\n"
        );
    }

    #[test]
    fn only_the_elastic_column_is_cut_to_the_terminal() {
        let text = sample().render(Some(40));
        assert_eq!(text.lines().nth(1), Some("google       12000  rate-limit 11000, t…"));
        assert!(text.lines().all(|line| line.chars().count() <= 40));
    }

    #[test]
    fn a_cell_never_shrinks_below_what_can_be_read() {
        let text = sample().render(Some(10));
        assert_eq!(text.lines().nth(1), Some("google       12000  rate-limit …"));
    }

    #[test]
    fn lines_do_not_end_in_spaces() {
        assert!(sample().render(None).lines().all(|line| !line.ends_with(' ')));
    }

    #[test]
    fn a_table_without_rows_is_its_heading() {
        assert_eq!(Table::new(&[("ID", Align::Left), ("NAME", Align::Left)]).render(None), "ID  NAME\n");
    }
}
