//! A plot as SVG, by hand: a few points over a logarithmic axis that begins with zero, the values up from zero. Pure.

use std::fmt::Write as _;

use super::figures::shown;

/// One panel.
pub struct Panel<'a> {
    /// What it shows.
    pub title: &'a str,
    /// What runs along.
    pub along: &'a str,
    /// What runs up.
    pub up: &'a str,
    /// The points, from left to right; none is negative.
    pub points: &'a [(f64, f64)],
}

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 260.0;
const LEFT: f64 = 70.0;
const TOP: f64 = 40.0;
const RIGHT: f64 = 690.0;
const BOTTOM: f64 = 205.0;

/// All panels, one below the other.
pub fn svg(panels: &[Panel<'_>]) -> String {
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n",
        HEIGHT * panels.len() as f64
    );
    for (at, panel) in panels.iter().enumerate() {
        writeln!(text, "<g transform=\"translate(0 {})\">", HEIGHT * at as f64).ok();
        panel.draw(&mut text);
        text.push_str("</g>\n");
    }
    text.push_str("</svg>\n");
    text
}

/// Where a value lies on a logarithmic axis on which zero has a place of its own, one decade below one.
fn place(value: f64) -> f64 {
    if value < 1.0 { 0.0 } else { 1.0 + value.log10() }
}

impl Panel<'_> {
    fn draw(&self, text: &mut String) {
        let places = self.points.iter().map(|(along, _)| place(*along));
        let (low, high) = places.fold((f64::MAX, f64::MIN), |(low, high), at| (low.min(at), high.max(at)));
        let most = self.points.iter().map(|(_, up)| *up).fold(1e-9, f64::max) * 1.15;
        let x = |along: f64| LEFT + 20.0 + (place(along) - low) / (high - low).max(1e-9) * (RIGHT - LEFT - 40.0);
        let y = |up: f64| BOTTOM - up / most * (BOTTOM - TOP);
        writeln!(
            text,
            "<text x=\"{LEFT}\" y=\"20\" font-size=\"14\">{}</text>\n\
             <path d=\"M{LEFT} {TOP}V{BOTTOM}H{RIGHT}\" fill=\"none\" stroke=\"#444444\"/>\n\
             <text x=\"{}\" y=\"{}\" text-anchor=\"middle\">{}</text>\n\
             <text transform=\"translate(16 {}) rotate(-90)\" text-anchor=\"middle\">{}</text>",
            self.title,
            (LEFT + RIGHT) / 2.0,
            BOTTOM + 40.0,
            self.along,
            (TOP + BOTTOM) / 2.0,
            self.up
        )
        .ok();
        for step in 0..=4 {
            let value = most / 1.15 * f64::from(step) / 4.0;
            writeln!(
                text,
                "<path d=\"M{LEFT} {at:.1}H{RIGHT}\" stroke=\"#dddddd\"/><text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
                LEFT - 6.0,
                y(value) + 4.0,
                shown(Some(value)),
                at = y(value),
            )
            .ok();
        }
        let line: Vec<String> =
            self.points.iter().map(|(along, up)| format!("{:.1},{:.1}", x(*along), y(*up))).collect();
        writeln!(text, "<polyline points=\"{}\" fill=\"none\" stroke=\"#1f6fb2\" stroke-width=\"2\"/>", line.join(" "))
            .ok();
        for (along, up) in self.points {
            writeln!(
                text,
                "<circle cx=\"{0:.1}\" cy=\"{1:.1}\" r=\"4\" fill=\"#1f6fb2\"/><text x=\"{0:.1}\" y=\"{2}\" \
                 text-anchor=\"middle\">{3}</text>",
                x(*along),
                y(*up),
                BOTTOM + 18.0,
                count(*along)
            )
            .ok();
        }
    }
}

/// A count in few characters: 10k, 5M.
pub fn count(value: f64) -> String {
    match value {
        million if million >= 1e6 => format!("{}M", million / 1e6),
        thousand if thousand >= 1e3 => format!("{}k", thousand / 1e3),
        few => format!("{few}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_point_has_its_circle_and_its_label() {
        let points = [(0.0, 100.0), (10_000.0, 90.0), (5_000_000.0, 80.0)];
        let panel = Panel { title: "t", along: "waiting", up: "rate", points: &points };
        let text = svg(&[panel]);
        assert_eq!(text.matches("<circle").count(), 3);
        for label in [">0<", ">10k<", ">5M<"] {
            assert!(text.contains(label), "{label}: {text}");
        }
        assert!(!text.contains("NaN") && !text.contains("inf"), "{text}");
    }

    #[test]
    fn one_point_and_none_make_a_plot_too() {
        for points in [&[(1.0, 5.0)][..], &[]] {
            let text = svg(&[Panel { title: "t", along: "a", up: "u", points }]);
            assert!(!text.contains("NaN") && !text.contains("inf"), "{text}");
        }
    }
}
