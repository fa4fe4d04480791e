//! The two pictures of a suite, drawn by `plotters`.
//!
//! Series differ in lightness and in their markers, so that a greyscale print can be read. No clock
//! and no font of the machine takes part: the same rows make the same bytes.

use std::collections::BTreeMap;

use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use serde_json::Value;

use super::row::{figure, text};
use crate::arguments::Failure;

/// Pixels of a picture's width, of the head above the panels, and of a panel's height.
const WIDTH: u32 = 900;
const HEAD: u32 = 62;
const PANEL: u32 = 215;
const MIB: f64 = 1024.0 * 1024.0;
/// Panels and groups of bars side by side.
const COLUMNS: usize = 3;
const GROUPS: usize = 5;

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Point = (f64, f64);

/// Cache and codec, the name in the legend, and the colour: from dark to light for bars.
const SERIES: [(&str, &str, &str, RGBColor); 6] = [
    ("zcache", "lz4", "zcache, LZ4", RGBColor(8, 48, 107)),
    ("zcache", "zstd:3", "zcache, zstd:3", RGBColor(158, 60, 5)),
    ("quick_cache", "lz4", "quick_cache, LZ4", RGBColor(49, 130, 141)),
    ("moka", "lz4", "moka, LZ4", RGBColor(122, 146, 190)),
    ("foyer-s3fifo", "lz4", "foyer S3-FIFO, LZ4", RGBColor(226, 168, 78)),
    ("foyer-lru", "lz4", "foyer LRU, LZ4", RGBColor(205, 205, 190)),
];

fn rows(suite: &Value, series: usize) -> impl Iterator<Item = &Value> {
    let (cache, codec, ..) = SERIES[series];
    let policy = move |row: &&Value| cache != "zcache" || row["policy"] == "s3fifo";
    let of = move |row: &&Value| row["cache"] == cache && row["codec"] == codec && policy(row);
    suite["rows"].as_array().into_iter().flatten().filter(of)
}

/// The names under `field` of all rows, each once.
fn names<'s>(suite: &'s Value, field: &str) -> Vec<&'s str> {
    let mut names: Vec<&str> = Vec::new();
    for row in suite["rows"].as_array().into_iter().flatten() {
        let name = text(row, field);
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

/// A marker that no other series has.
fn marker(area: &Area<'_>, series: usize, (x, y): (i32, i32)) -> Result<(), Failure> {
    let (color, r) = (SERIES[series].3, 4);
    let (fill, line) = (color.filled(), color.stroke_width(2));
    match series {
        0 => area.draw(&Circle::new((x, y), r, fill))?,
        1 => area.draw(&Rectangle::new([(x - r, y - r), (x + r, y + r)], fill))?,
        2 => area.draw(&TriangleMarker::new((x, y), r + 2, fill))?,
        3 => area.draw(&Cross::new((x, y), r, line))?,
        4 => area.draw(&Circle::new((x, y), r, line))?,
        _ => {
            area.draw(&Circle::new((x, y), r, fill))?;
            area.draw(&Circle::new((x, y), r, BLACK.stroke_width(1)))?;
        }
    }
    Ok(())
}

/// A picture of so many rows of panels, with its title and legend; `draw` gets the area below.
fn picture(
    title: &str,
    rows: usize,
    key: impl Fn(&Area<'_>, usize, (i32, i32)) -> Result<(), Failure>,
    draw: impl FnOnce(&Area<'_>) -> Result<(), Failure>,
) -> Result<String, Failure> {
    let mut svg = String::new();
    {
        let size = (WIDTH, HEAD + rows.max(1) as u32 * PANEL);
        let root = SVGBackend::with_string(&mut svg, size).into_drawing_area();
        root.fill(&WHITE)?;
        root.draw(&Text::new(title.to_owned(), (10, 8), ("sans-serif", 17)))?;
        for (number, (.., name, _)) in SERIES.iter().enumerate() {
            let at = (18 + number as i32 * 147, 44);
            key(&root, number, at)?;
            let place = (at.0 + 12, at.1 - 6);
            root.draw(&Text::new((*name).to_owned(), place, ("sans-serif", 12)))?;
        }
        draw(&root.margin(HEAD, 0, 0, 0))?;
        root.present()?;
    }
    svg.push('\n');
    Ok(svg)
}

/// Hit ratio by memory, a panel for each trace.
///
/// # Errors
/// What the drawing library reports.
pub fn hit_ratios(suite: &Value) -> Result<String, Failure> {
    let traces = names(suite, "trace");
    let title = "Hits in percent of requests, by memory in percent of the compressed data";
    picture(title, traces.len().div_ceil(COLUMNS), marker, |area| {
        let panels = area.split_evenly((traces.len().div_ceil(COLUMNS).max(1), COLUMNS));
        for (trace, panel) in traces.iter().zip(&panels) {
            let point = |row: &Value| figure(row, "percent").zip(figure(row, "hit_ratio"));
            let line = |series| -> Vec<Point> {
                let own = rows(suite, series).filter(|row| row["trace"] == *trace);
                own.filter_map(point).map(|(percent, ratio)| (percent, 100.0 * ratio)).collect()
            };
            let lines: Vec<Vec<Point>> = (0..SERIES.len()).map(line).collect();
            curves(panel, trace, &lines)?;
        }
        Ok(())
    })
}

fn curves(panel: &Area<'_>, name: &str, lines: &[Vec<Point>]) -> Result<(), Failure> {
    let all = || lines.iter().flatten();
    let span = |of: fn(&Point) -> f64| {
        let least = all().map(of).fold(f64::INFINITY, f64::min);
        (least, all().map(of).fold(f64::NEG_INFINITY, f64::max))
    };
    let ((left, right), (low, high)) = (span(|point| point.0), span(|point| point.1));
    if !left.is_finite() {
        return Ok(());
    }
    let room = ((high - low) * 0.08).max(0.5);
    let mut chart = ChartBuilder::on(panel)
        .caption(name, ("sans-serif", 14))
        .margin_right(16)
        .x_label_area_size(24)
        .y_label_area_size(42)
        .build_cartesian_2d(left - 1.0..right.max(left + 1.0) + 1.0, low - room..high + room)?;
    chart
        .configure_mesh()
        .x_labels(6)
        .y_labels(6)
        .x_label_formatter(&plain)
        .y_label_formatter(&plain)
        .light_line_style(TRANSPARENT)
        .draw()?;
    // The first series lies on top of the others.
    for (series, line) in lines.iter().enumerate().rev() {
        let style = SERIES[series].3.stroke_width(2);
        chart.draw_series(LineSeries::new(line.iter().copied(), style))?;
        for point in line {
            marker(panel, series, inside(panel, chart.backend_coord(point)))?;
        }
    }
    Ok(())
}

/// Pages held in each MiB of resident memory, a group of bars for each set of pages.
///
/// # Errors
/// What the drawing library reports.
pub fn pages_held(suite: &Value) -> Result<String, Failure> {
    // Sets of one page size side by side: their figures are of one order.
    let all = suite["rows"].as_array().map_or(&[][..], Vec::as_slice);
    let mut sets = names(suite, "pages");
    sets.sort_by_key(|set| (set.rsplit('-').next().map(|size| (size.len(), size)), *set));
    let title = "Pages held in each MiB of resident memory (line: pages as they are); medians over \
                 traces and budgets";
    let key = |area: &Area<'_>, series, at| bar(area, series, at, 8);
    picture(title, sets.len().div_ceil(GROUPS), key, |area| {
        let panels = area.split_evenly((sets.len().div_ceil(GROUPS).max(1), 1));
        for (sets, panel) in sets.chunks(GROUPS).zip(&panels) {
            let mut bars = BTreeMap::new();
            for (group, set) in sets.iter().enumerate() {
                for series in 0..SERIES.len() {
                    let own = rows(suite, series).filter(|row| row["pages"] == *set);
                    let held: Vec<f64> =
                        own.filter_map(|row| figure(row, "pages_per_mib")).collect();
                    if let Some(held) = median(held) {
                        bars.insert((group, series), held);
                    }
                }
            }
            let plain = |set: &&str| {
                let row = all.iter().find(|row| row["pages"] == *set);
                row.and_then(|row| figure(row, "page_bytes")).map(|bytes| MIB / bytes)
            };
            let plain: Vec<Option<f64>> = sets.iter().map(plain).collect();
            groups(panel, sets, &bars, &plain)?;
        }
        Ok(())
    })
}

fn bar(area: &Area<'_>, series: usize, (x, y): (i32, i32), high: i32) -> Result<(), Failure> {
    let corners = [(x - 8, y - high), (x + 8, y + high)];
    area.draw(&Rectangle::new(corners, SERIES[series].3.filled()))?;
    Ok(area.draw(&Rectangle::new(corners, BLACK.stroke_width(1)))?)
}

fn groups(
    panel: &Area<'_>,
    names: &[&str],
    bars: &BTreeMap<(usize, usize), f64>,
    plain_pages: &[Option<f64>],
) -> Result<(), Failure> {
    let most = bars.values().copied().fold(1.0, f64::max);
    let each = SERIES.len() as f64 + 1.0;
    let mut chart = ChartBuilder::on(panel)
        .margin_right(12)
        .margin_top(8)
        .x_label_area_size(24)
        .y_label_area_size(48)
        .build_cartesian_2d(0.0..each * GROUPS as f64, 0.0..most * 1.12)?;
    let mut mesh = chart.configure_mesh();
    mesh.disable_x_mesh()
        .disable_x_axis()
        .y_labels(5)
        .y_label_formatter(&plain)
        .light_line_style(TRANSPARENT)
        .draw()?;
    let written = |text: &str, size: i32, vertical, (x, y): (i32, i32)| -> Result<(), Failure> {
        let style = ("sans-serif", size).into_text_style(panel);
        let style = style.pos(Pos::new(HPos::Center, vertical));
        Ok(panel.draw_text(text, &style, inside(panel, (x, y)))?)
    };
    for ((group, series), held) in bars {
        let x = *group as f64 * each + *series as f64 + 0.5;
        let corners = [(x, 0.0), (x + 0.9, *held)];
        let color = SERIES[*series].3;
        chart.draw_series([
            Rectangle::new(corners, color.filled()),
            Rectangle::new(corners, BLACK.stroke_width(1)),
        ])?;
    }
    for (group, held) in plain_pages.iter().enumerate() {
        let (left, Some(held)) = (group as f64 * each, held) else { continue };
        let line = vec![(left + 0.3, *held), (left + each - 0.4, *held)];
        chart.draw_series([PathElement::new(line, BLACK.stroke_width(2))])?;
    }
    for ((group, series), held) in bars {
        let x = *group as f64 * each + *series as f64 + 0.95;
        written(&format!("{held:.0}"), 11, VPos::Bottom, chart.backend_coord(&(x, *held)))?;
    }
    for (group, name) in names.iter().enumerate() {
        let (x, y) = chart.backend_coord(&((group as f64 + 0.5) * each, 0.0));
        written(name, 13, VPos::Top, (x, y + 6))?;
    }
    Ok(())
}

/// A tick's number without zeros behind the point.
fn plain(number: &f64) -> String {
    number.to_string()
}

/// A pixel of the picture as one of this panel.
fn inside(panel: &Area<'_>, (x, y): (i32, i32)) -> (i32, i32) {
    let (left, top) = panel.get_base_pixel();
    (x - left, y - top)
}

/// The middle one of some values, or the mean of the two in the middle.
fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let last = values.len().checked_sub(1)?;
    Some((values[last / 2] + values[last.div_ceil(2)]) / 2.0)
}
