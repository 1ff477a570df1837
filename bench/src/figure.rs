//! Figures as SVG: lines over a quantity, and bars side by side.

use crate::Outcome;
use plotters::coord::{CoordTranslate, Shift};
use plotters::prelude::*;
use std::path::Path;

const SIZE: (u32, u32) = (1000, 480);
const FONT: &str = "sans-serif";

/// What is told apart by colour; more than so many are told apart no more.
const COLOURS: [RGBColor; 6] = [
    RGBColor(31, 119, 180),
    RGBColor(214, 108, 20),
    RGBColor(44, 140, 60),
    RGBColor(190, 40, 50),
    RGBColor(120, 90, 170),
    RGBColor(110, 110, 110),
];

fn colour(n: usize) -> RGBColor {
    COLOURS[n % COLOURS.len()]
}

/// Names what the chart's colours are.
fn legend<'a, C: CoordTranslate>(
    chart: &mut ChartContext<'a, SVGBackend<'a>, C>,
    position: SeriesLabelPosition,
) -> Outcome<()> {
    chart
        .configure_series_labels()
        .position(position)
        .background_style(WHITE.mix(0.8))
        .border_style(BLACK.mix(0.3))
        .label_font((FONT, 13))
        .draw()
        .map_err(failed)?;
    Ok(())
}

/// One curve.
#[derive(Clone, Debug)]
pub struct Line {
    /// As the legend has it.
    pub name: String,
    /// In the order of x.
    pub points: Vec<(f64, f64)>,
}

/// Curves over one quantity.
#[derive(Clone, Debug)]
pub struct Lines<'a> {
    /// Above it.
    pub title: &'a str,
    /// Below it.
    pub x: &'a str,
    /// Beside it.
    pub y: &'a str,
    /// x doubles from mark to mark.
    pub doubling: bool,
    /// The curves.
    pub lines: Vec<Line>,
}

impl Lines<'_> {
    /// Draws it; without points there is nothing to draw, and no file.
    pub fn draw(&self, path: &Path) -> Outcome<bool> {
        let place = |x: f64| if self.doubling { x.log2() } else { x };
        let all = || self.lines.iter().flat_map(|line| &line.points);
        let Some((least, most)) = ends(all().map(|&(x, _)| place(x))) else {
            return Ok(false);
        };
        let top = all().fold(0.0, |top: f64, &(_, y)| top.max(y)) * 1.1;
        let area = canvas(path)?;
        let margin = ((most - least) * 0.03).max(0.05);
        let mut chart = ChartBuilder::on(&area)
            .caption(self.title, (FONT, 18))
            .margin(12)
            .x_label_area_size(44)
            .y_label_area_size(64)
            .build_cartesian_2d(least - margin..most + margin, 0.0..top.max(f64::MIN_POSITIVE))
            .map_err(failed)?;
        let marks = |x: &f64| {
            if self.doubling {
                format!("{:.0}", x.exp2())
            } else {
                format!("{x:.0}")
            }
        };
        chart
            .configure_mesh()
            .x_desc(self.x)
            .y_desc(self.y)
            .x_label_formatter(&marks)
            .axis_desc_style((FONT, 14))
            .draw()
            .map_err(failed)?;
        for (n, line) in self.lines.iter().enumerate() {
            let points = || line.points.iter().map(|&(x, y)| (place(x), y));
            let style = colour(n).stroke_width(2);
            chart
                .draw_series(LineSeries::new(points(), style))
                .map_err(failed)?
                .label(line.name.as_str())
                .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], style));
            let dots = points().map(|at| Circle::new(at, 3, colour(n).filled()));
            chart.draw_series(dots).map_err(failed)?;
        }
        legend(&mut chart, SeriesLabelPosition::MiddleRight)?;
        area.present().map_err(failed)?;
        Ok(true)
    }
}

/// Groups of bars, one bar a series; a series may have none in a group.
#[derive(Clone, Debug)]
pub struct Bars<'a> {
    /// Above it.
    pub title: &'a str,
    /// Beside it.
    pub y: &'a str,
    /// The series, as the legend has them.
    pub series: Vec<&'a str>,
    /// The groups.
    pub groups: Vec<(String, Vec<Option<f64>>)>,
}

impl Bars<'_> {
    /// Draws it; without values there is nothing to draw, and no file.
    pub fn draw(&self, path: &Path) -> Outcome<bool> {
        let values = || self.groups.iter().flat_map(|(_, values)| values.iter().flatten());
        if values().next().is_none() {
            return Ok(false);
        }
        let top = values().fold(0.0, |top: f64, &value| top.max(value)) * 1.1;
        let bottom = values().fold(0.0, |bottom: f64, &value| bottom.min(value)) * 1.1;
        let area = canvas(path)?;
        let mut chart = ChartBuilder::on(&area)
            .caption(self.title, (FONT, 18))
            .margin(12)
            .x_label_area_size(44)
            .y_label_area_size(64)
            .build_cartesian_2d(
                -0.5..self.groups.len() as f64 - 0.5,
                bottom..top.max(f64::MIN_POSITIVE),
            )
            .map_err(failed)?;
        let name = |x: &f64| {
            let group = ((x - x.round()).abs() < 0.01).then(|| self.groups.get(x.round() as usize));
            group.flatten().map_or(String::new(), |(name, _)| name.clone())
        };
        chart
            .configure_mesh()
            .disable_x_mesh()
            .x_labels(self.groups.len() * 2 + 1)
            .x_label_formatter(&name)
            .x_label_style((FONT, 11))
            .y_desc(self.y)
            .axis_desc_style((FONT, 14))
            .draw()
            .map_err(failed)?;
        let width = 0.8 / self.series.len().max(1) as f64;
        for (n, series) in self.series.iter().enumerate() {
            let style = colour(n).filled();
            let bars = self.groups.iter().enumerate().filter_map(|(group, (_, values))| {
                let value = (*values.get(n)?)?;
                let left = group as f64 - 0.4 + width * n as f64;
                Some(Rectangle::new([(left, 0.0), (left + width * 0.9, value)], style))
            });
            chart
                .draw_series(bars)
                .map_err(failed)?
                .label(*series)
                .legend(move |(x, y)| Rectangle::new([(x, y - 5), (x + 12, y + 5)], style));
        }
        legend(&mut chart, SeriesLabelPosition::UpperLeft)?;
        area.present().map_err(failed)?;
        Ok(true)
    }
}

fn canvas(path: &Path) -> Outcome<DrawingArea<SVGBackend<'_>, Shift>> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    let area = SVGBackend::new(path, SIZE).into_drawing_area();
    area.fill(&WHITE).map_err(failed)?;
    Ok(area)
}

/// plotters' errors borrow what was drawn on.
fn failed(error: impl std::fmt::Display) -> String {
    format!("a figure: {error}")
}

fn ends(values: impl Iterator<Item = f64>) -> Option<(f64, f64)> {
    values.fold(None, |ends, value| match ends {
        None => Some((value, value)),
        Some((least, most)) => Some((value.min(least), value.max(most))),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_hold_their_names_and_an_empty_one_makes_no_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.svg");
        let mut lines = Lines {
            title: "A title",
            x: "bytes",
            y: "Mbit/s",
            doubling: true,
            lines: Vec::new(),
        };
        assert!(!lines.draw(&path).unwrap() && !path.exists());
        lines.lines.push(Line {
            name: "ours".into(),
            points: vec![(512.0, 1.0), (1024.0, 3.0)],
        });
        assert!(lines.draw(&path).unwrap());
        let text = std::fs::read_to_string(&path).unwrap();
        for word in ["A title", "Mbit/s", "ours", "1024"] {
            assert!(text.contains(word), "no {word}");
        }

        let path = folder.path().join("b.svg");
        let bars = Bars {
            title: "Bars",
            y: "%",
            series: vec!["ours", "theirs"],
            groups: vec![
                ("one".into(), vec![Some(1.0), None]),
                ("two".into(), vec![Some(-2.0), Some(3.0)]),
            ],
        };
        assert!(bars.draw(&path).unwrap());
        let text = std::fs::read_to_string(&path).unwrap();
        for word in ["one", "two", "theirs"] {
            assert!(text.contains(word), "no {word}");
        }
        for count in 1..=9 {
            let groups = (0..count).map(|n| (format!("group {n}"), vec![Some(1.0)]));
            let bars = Bars {
                groups: groups.collect(),
                ..bars.clone()
            };
            assert!(bars.draw(&path).unwrap());
            let text = std::fs::read_to_string(&path).unwrap();
            let named = (0..count)
                .filter(|n| text.contains(&format!("group {n}")))
                .count();
            assert_eq!(named, count, "every group has its name below");
        }
    }
}
