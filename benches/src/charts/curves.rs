//! Curves, in one panel or in many small ones.

use crate::charts::canvas::{Anchor, Canvas, Key, LINE, SMALL, WIDTH, text_width};
use crate::charts::scale::{Scale, Spread, label};
use crate::charts::series::{Entry, entries_of};

const LEFT: f64 = 52.0;
/// For the axis's name, left of all panels.
const EDGE: f64 = 22.0;
const GAP: f64 = 14.0;
/// How much wider bold text is.
const BOLD: f64 = 1.1;
/// The least distance between two labels of an axis.
const APART: f64 = 8.0;

/// One curve.
#[derive(Debug, Clone)]
pub struct Curve {
    /// Number of the series.
    pub series: usize,
    /// Its points, from left to right.
    pub points: Vec<(f64, f64)>,
    /// Where the line goes, if not straight from point to point.
    pub line: Vec<(f64, f64)>,
}

/// Curves over the same axes.
#[derive(Debug, Clone)]
pub struct Panel {
    /// What they have in common.
    pub name: String,
    /// A remark in a line below that.
    pub note: Option<String>,
    /// Values of the lower axis that a line marks.
    pub marks: Vec<f64>,
    /// The curves.
    pub curves: Vec<Curve>,
}

/// A figure of curves.
#[derive(Debug)]
pub struct Curves {
    /// A word that tells it from others.
    pub id: &'static str,
    /// What is shown.
    pub title: &'static str,
    /// How it is to be read.
    pub notes: Vec<String>,
    /// What the lower axis measures, in what, and how it is spread.
    pub x: (&'static str, Spread),
    /// The same for the upright one.
    pub y: (&'static str, Spread),
    /// A value of the upright axis that a line marks.
    pub level: Option<f64>,
    /// Every series that may occur.
    pub series: Vec<Entry>,
    /// The panels, line by line.
    pub panels: Vec<Panel>,
}

/// Where a panel's axes are.
#[derive(Debug, Clone, Copy)]
struct Frame {
    left: f64,
    right: f64,
    top: f64,
    bottom: f64,
}

impl Curves {
    /// The figure as SVG.
    #[must_use]
    pub fn svg(&self) -> String {
        let mut canvas = Canvas::new(self.id);
        let curves = self.panels.iter().flat_map(|panel| &panel.curves);
        let legend = entries_of(&self.series, curves.map(|curve| curve.series));
        let start = canvas.head(self.title, &self.notes, Key::Curve, &legend);
        if self.panels.is_empty() {
            canvas.text((WIDTH / 2.0, start + 40.0), Anchor::Middle, "no rows");
            return canvas.finish(start + 80.0, self.title);
        }
        let columns = self.columns();
        let plot = [300.0, 220.0, 165.0][columns - 1];
        let noted = self.panels.iter().any(|panel| panel.note.is_some());
        let names = if noted { 2.0 * LINE } else { LINE } + 6.0;
        let height = names + plot + 2.0 * LINE + 16.0;
        let width = (WIDTH - EDGE) / columns as f64;
        for (index, panel) in self.panels.iter().enumerate() {
            let (column, row) = (index % columns, index / columns);
            let left = EDGE + column as f64 * width;
            let top = start + row as f64 * height + names;
            let (right, bottom) = (left + width - GAP, top + plot);
            let frame = Frame { left: left + LEFT, right, top, bottom };
            self.panel(&mut canvas, panel, frame);
            canvas.bold_text((frame.left, top - names + 14.0), Anchor::Start, &panel.name);
            if let Some(note) = &panel.note {
                canvas.text((frame.left, top - names + 14.0 + LINE), Anchor::Start, note);
            }
            if column == 0 {
                let middle = (top + bottom) / 2.0;
                canvas.upright_text((16.0, middle), Anchor::Middle, self.y.0);
            }
            let below = ((frame.left + right) / 2.0, bottom + 2.0 * LINE);
            canvas.text(below, Anchor::Middle, self.x.0);
        }
        let rows = self.panels.len().div_ceil(columns);
        canvas.finish(start + rows as f64 * height, self.title)
    }

    /// Panels side by side: as many as leave room for the longest name.
    fn columns(&self) -> usize {
        let names = self.panels.iter().map(|panel| text_width(&panel.name, SMALL) * BOLD);
        let longest = names.fold(0.0, f64::max);
        let fits = |columns: &usize| (WIDTH - EDGE) / *columns as f64 - LEFT - GAP >= longest;
        (1..=self.panels.len().min(3)).rev().find(fits).unwrap_or(1)
    }

    /// The axes and curves of one panel.
    fn panel(&self, canvas: &mut Canvas, panel: &Panel, frame: Frame) {
        let Frame { left, right, top, bottom } = frame;
        let points = || panel.curves.iter().flat_map(|curve| curve.points.iter().copied());
        let xs = points().map(|(x, _)| x).chain(panel.marks.iter().copied());
        let x = Scale::new(&self.x.1, xs, (left, right));
        let y = Scale::new(&self.y.1, points().map(|(_, y)| y).chain(self.level), (bottom, top));
        let (Some(x), Some(y)) = (x, y) else {
            canvas.text(((left + right) / 2.0, (top + bottom) / 2.0), Anchor::Middle, "no rows");
            return;
        };
        let mut free = f64::NEG_INFINITY;
        for tick in x.ticks() {
            let (Some(at), text) = (x.at(*tick), label(*tick)) else { continue };
            canvas.line((at, top), (at, bottom), true);
            let half = text_width(&text, SMALL) / 2.0;
            if at - half >= free {
                canvas.text((at, bottom + LINE - 2.0), Anchor::Middle, &text);
                free = at + half + APART;
            }
        }
        for tick in y.ticks() {
            let Some(at) = y.at(*tick) else { continue };
            canvas.line((left, at), (right, at), true);
            canvas.text((left - 6.0, at + 4.0), Anchor::End, &label(*tick));
        }
        for at in panel.marks.iter().filter_map(|mark| x.at(*mark)) {
            canvas.mark((at, top), (at, bottom));
        }
        if let Some(at) = self.level.and_then(|level| y.at(level)) {
            canvas.mark((left, at), (right, at));
        }
        canvas.line((left, top), (left, bottom), false);
        canvas.line((left, bottom), (right, bottom), false);
        // The first series lies on top of the others.
        for curve in panel.curves.iter().rev() {
            let Entry { name, style } = &self.series[curve.series];
            let at = |(vx, vy): &(f64, f64)| Some((x.at(*vx)?, y.at(*vy)?));
            let line = if curve.line.is_empty() { &curve.points } else { &curve.line };
            canvas.curve(*style, &line.iter().filter_map(at).collect::<Vec<_>>());
            for (vx, vy) in &curve.points {
                if let Some(at) = at(&(*vx, *vy)) {
                    canvas.marker(*style, at, &format!("{name}: {} at {}", label(*vy), label(*vx)));
                }
            }
        }
    }
}
