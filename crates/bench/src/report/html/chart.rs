//! A chart of lines, or of areas upon each other, as SVG with a legend in HTML.

use std::fmt::Write;

use super::{escape, scale::Scale};

/// The picture has this size in its own units; the page scales it to its width.
const WIDTH: f64 = 400.0;
const HEIGHT: f64 = 260.0;
const LEFT: f64 = 56.0;
const RIGHT: f64 = 388.0;
const TOP: f64 = 14.0;
const BOTTOM: f64 = 214.0;

/// Colours that people with usual kinds of colour blindness tell apart (Okabe and Ito).
const COLOURS: [&str; 8] =
    ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#6b6b6b", "#000000"];

/// The numbers of an axis.
#[derive(Clone, Debug)]
pub(super) struct Axis {
    /// What the axis shows, with its unit.
    pub(super) title: String,
    /// Whether it is logarithmic.
    pub(super) is_logarithmic: bool,
    /// Names for the numbers 0, 1, 2 .., in place of ticks.
    pub(super) names: Vec<String>,
}

impl Axis {
    /// An even axis from 0.
    pub(super) fn even(title: &str) -> Self {
        Self { title: title.to_owned(), is_logarithmic: false, names: Vec::new() }
    }

    /// A logarithmic axis.
    pub(super) fn logarithmic(title: &str) -> Self {
        Self { is_logarithmic: true, ..Self::even(title) }
    }
}

/// One line or area.
#[derive(Clone, Debug)]
pub(super) struct Series {
    /// Its name in the legend.
    pub(super) name: String,
    /// Its points, from left to right.
    pub(super) points: Vec<(f64, f64)>,
    /// Whether the line is dashed.
    pub(super) is_dashed: bool,
}

/// A chart.
#[derive(Clone, Debug)]
pub(super) struct Chart {
    /// What it shows.
    pub(super) title: String,
    pub(super) x: Axis,
    pub(super) y: Axis,
    pub(super) series: Vec<Series>,
    /// Whether the series are areas upon each other.
    pub(super) is_stacked: bool,
    /// Moments on the horizontal axis, with a name each.
    pub(super) marks: Vec<(f64, String)>,
}

impl Chart {
    /// The chart as a `figure`, or nothing if it has no point.
    pub(super) fn render(&self) -> String {
        let series: Vec<Series> = if self.is_stacked { stacked(&self.series) } else { self.series.clone() };
        let points = || series.iter().flat_map(|series| &series.points);
        if points().next().is_none() {
            return String::new();
        }
        let x = scale(&self.x, points().map(|point| point.0), (LEFT, RIGHT));
        let y = scale(&self.y, points().map(|point| point.1), (BOTTOM, TOP));
        let mut svg = format!(
            "<figure><figcaption>{}</figcaption><svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{}\">",
            escape(&self.title),
            escape(&self.title)
        );
        self.draw_axes(&mut svg, &x, &y);
        // Areas are drawn from the highest to the lowest, each down to the axis.
        let places: Vec<usize> =
            if self.is_stacked { (0..series.len()).rev().collect() } else { (0..series.len()).collect() };
        for place in places {
            self.draw_series(&mut svg, &series[place], place, &x, &y);
        }
        for (at, name) in &self.marks {
            let at = x.place(*at);
            let _ = write!(
                svg,
                "<line class=\"mark\" x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"{TOP}\" y2=\"{BOTTOM}\"><title>{}</title></line>",
                escape(name)
            );
        }
        svg.push_str("</svg>");
        self.draw_legend(&mut svg);
        svg.push_str("</figure>");
        svg
    }

    fn draw_axes(&self, svg: &mut String, x: &Scale, y: &Scale) {
        for tick in y.ticks() {
            let at = y.place(tick);
            let _ = write!(
                svg,
                "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{RIGHT}\" y1=\"{at:.1}\" y2=\"{at:.1}\"/>\
                 <text class=\"y\" x=\"{:.1}\" y=\"{:.1}\">{}</text>",
                LEFT - 6.0,
                at + 4.0,
                short(tick)
            );
        }
        let ticks: Vec<(f64, String)> = match self.x.names.is_empty() {
            true => x.ticks().into_iter().map(|tick| (tick, short(tick))).collect(),
            false => self.x.names.iter().enumerate().map(|(at, name)| (at as f64, name.clone())).collect(),
        };
        for (tick, name) in ticks {
            let at = x.place(tick);
            // A label at an end of the axis stays within the picture.
            let anchor = if at > RIGHT - 12.0 { "end" } else { "middle" };
            let _ = write!(
                svg,
                "<line class=\"tick\" x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"{BOTTOM}\" y2=\"{:.1}\"/>\
                 <text class=\"x\" text-anchor=\"{anchor}\" x=\"{:.1}\" y=\"{:.1}\">{}</text>",
                BOTTOM + 4.0,
                if anchor == "end" { at + 10.0 } else { at },
                BOTTOM + 18.0,
                escape(&name)
            );
        }
        let _ = write!(
            svg,
            "<line class=\"axis\" x1=\"{LEFT}\" x2=\"{RIGHT}\" y1=\"{BOTTOM}\" y2=\"{BOTTOM}\"/>\
             <text class=\"title\" text-anchor=\"middle\" x=\"{:.1}\" y=\"{:.1}\">{}</text>\
             <text class=\"title\" text-anchor=\"middle\" transform=\"translate(11 {:.1}) rotate(-90)\">{}</text>",
            (LEFT + RIGHT) / 2.0,
            BOTTOM + 38.0,
            escape(&self.x.title),
            (TOP + BOTTOM) / 2.0,
            escape(&self.y.title)
        );
    }

    fn draw_series(&self, svg: &mut String, series: &Series, place: usize, x: &Scale, y: &Scale) {
        let colour = COLOURS[place % COLOURS.len()];
        let points: Vec<String> = series
            .points
            .iter()
            .map(|point| format!("{:.1},{:.1}", x.place(point.0), y.place(point.1)))
            .collect();
        let Some(((first, _), (last, _))) = series.points.first().zip(series.points.last()) else { return };
        if self.is_stacked {
            let _ = write!(
                svg,
                "<polygon fill=\"{colour}\" points=\"{:.1},{BOTTOM} {} {:.1},{BOTTOM}\"/>",
                x.place(*first),
                points.join(" "),
                x.place(*last)
            );
            return;
        }
        let dashes = if series.is_dashed { " stroke-dasharray=\"5 4\"" } else { "" };
        let _ = write!(svg, "<polyline stroke=\"{colour}\"{dashes} points=\"{}\"/>", points.join(" "));
        if series.points.len() <= 20 {
            for point in &points {
                let (x, y) = point.split_once(',').unwrap_or_default();
                let _ = write!(svg, "<circle fill=\"{colour}\" cx=\"{x}\" cy=\"{y}\" r=\"2.6\"/>");
            }
        }
    }

    fn draw_legend(&self, svg: &mut String) {
        svg.push_str("<ul class=\"legend\">");
        for (place, series) in self.series.iter().enumerate().filter(|(_, series)| !series.points.is_empty())
        {
            let colour = COLOURS[place % COLOURS.len()];
            let style = match series.is_dashed {
                true => format!("background:repeating-linear-gradient(90deg,{colour} 0 5px,#fff 5px 8px)"),
                false => format!("background:{colour}"),
            };
            let _ = write!(svg, "<li><i style=\"{style}\"></i>{}</li>", escape(&series.name));
        }
        if !self.marks.is_empty() {
            let names: Vec<&str> = self.marks.iter().map(|(_, name)| name.as_str()).collect();
            let _ = write!(svg, "<li><i class=\"mark\"></i>{}</li>", escape(&names.join("; ")));
        }
        svg.push_str("</ul>");
    }
}

fn scale(axis: &Axis, numbers: impl Iterator<Item = f64> + Clone, ends: (f64, f64)) -> Scale {
    let most = numbers.clone().fold(f64::MIN, f64::max);
    if !axis.names.is_empty() {
        return Scale::even(axis.names.len() as f64 - 1.0, ends);
    }
    match axis.is_logarithmic {
        true => {
            Scale::logarithmic(numbers.filter(|number| *number > 0.0).fold(f64::MAX, f64::min), most, ends)
        }
        // Shares go up to 100 %, so that charts of several stacks compare.
        false if axis.title.contains('%') => Scale::even(100.0, ends),
        false => Scale::even(most * 1.05, ends),
    }
}

/// Each series upon the ones before it. All have the same horizontal places.
fn stacked(series: &[Series]) -> Vec<Series> {
    let mut heights: Vec<f64> = Vec::new();
    let mut upon = Vec::new();
    for one in series {
        heights.resize(one.points.len().max(heights.len()), 0.0);
        let mut points = Vec::new();
        for (height, point) in heights.iter_mut().zip(&one.points) {
            *height += point.1;
            points.push((point.0, *height));
        }
        upon.push(Series { points, ..one.clone() });
    }
    upon
}

/// A number in at most five characters.
fn short(number: f64) -> String {
    let (scaled, unit) = match number.abs() {
        large if large >= 1e6 => (number / 1e6, "M"),
        large if large >= 1e3 => (number / 1e3, "k"),
        _ => (number, ""),
    };
    let digits = format!("{scaled:.2}");
    format!("{}{unit}", digits.trim_end_matches('0').trim_end_matches('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_short() {
        let shown = [0.0, 0.25, 12.0, 1_500.0, 20_000.0, 2e6].map(short);
        assert_eq!(shown, ["0", "0.25", "12", "1.5k", "20k", "2M"]);
    }

    #[test]
    fn a_name_cannot_leave_its_place_in_the_page() {
        let series =
            Series { name: "<b>\"".to_owned(), points: vec![(1.0, 2.0), (3.0, 4.0)], is_dashed: true };
        let chart = Chart {
            title: "a & b".to_owned(),
            x: Axis::even("x"),
            y: Axis::logarithmic("y"),
            series: vec![series.clone(), series],
            is_stacked: true,
            marks: vec![(2.0, "</svg>".to_owned())],
        };
        let html = chart.render();
        assert!(!html.contains("<b>") && html.matches("</svg>").count() == 1, "{html}");
        assert!(html.contains("a &amp; b") && html.contains("&lt;b&gt;&quot;"), "{html}");
        assert_eq!(Chart { series: Vec::new(), ..chart }.render(), "");
    }
}
