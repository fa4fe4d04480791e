//! The parts every figure is made of: text, lines, hatched areas, markers, a legend.

use std::collections::BTreeMap;

use svg::Document;
use svg::node::Node;
use svg::node::element::{
    Circle, Definitions, Group, Line, Path, Pattern, Polyline, Rectangle, Text, Title,
};

use crate::charts::series::{Entry, Hatch, Marker, Style};

/// Pixels from side to side: what a README shows without shrinking it.
pub const WIDTH: f64 = 860.0;
/// Pixels of the smallest text.
pub const SMALL: u32 = 12;
/// Pixels of the title.
const LARGE: u32 = 16;
/// The height of a line of small text.
pub const LINE: f64 = 18.0;
const FONT: &str = "Helvetica, Arial, 'DejaVu Sans', sans-serif";
const INK: &str = "#1a1a1a";
const FAINT: &str = "#dddddd";
const PALE: f64 = 0.3;

/// Where a text stands by its point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Anchor {
    /// To its right.
    Start,
    /// Around it.
    Middle,
    /// To its left.
    End,
}

/// What a key of the legend looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Key {
    /// An area.
    Area,
    /// A line with a point on it.
    Curve,
}

/// A picture in the making.
#[derive(Debug)]
pub struct Canvas {
    name: String,
    body: Group,
    hatches: BTreeMap<String, Pattern>,
}

/// Tenths of a pixel are as fine as a picture gets.
fn px(pixels: f64) -> f64 {
    (pixels * 10.0).round() / 10.0
}

/// About how wide a text is: generous, for nobody knows the reader's font.
#[must_use]
pub fn text_width(text: &str, size: u32) -> f64 {
    text.chars().count() as f64 * f64::from(size) * 0.62
}

impl Canvas {
    /// An empty picture. `name` tells its parts from those of other pictures in one page.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self { name: name.to_owned(), body: Group::new(), hatches: BTreeMap::new() }
    }

    /// The title and what is to be known about it, each on a line of its own, and a legend. Returns how
    /// far down they reach.
    pub fn head(&mut self, title: &str, notes: &[String], key: Key, legend: &[Entry]) -> f64 {
        let bold = place((12.0, 24.0), Anchor::Start, title);
        self.body.append(bold.set("font-size", LARGE).set("font-weight", "bold"));
        let mut y = 24.0;
        for note in notes.iter().flat_map(|note| wrap(note, WIDTH - 24.0)) {
            y += LINE;
            self.text((12.0, y), Anchor::Start, &note);
        }
        let (mut x, gap) = (12.0, 18.0);
        y += if legend.is_empty() { 0.0 } else { LINE + 6.0 };
        for Entry { name, style } in legend {
            let width = 40.0 + text_width(name, SMALL) + gap;
            if x > 12.0 && x + width > WIDTH {
                (x, y) = (12.0, y + LINE + 2.0);
            }
            match key {
                Key::Area => self.area(*style, (x, y - 11.0), (30.0, 14.0), name),
                Key::Curve => {
                    self.curve(*style, &[(x, y - 4.0), (x + 34.0, y - 4.0)]);
                    self.marker(*style, (x + 17.0, y - 4.0), name);
                }
            }
            self.text((x + 40.0, y), Anchor::Start, name);
            x += width;
        }
        y + 16.0
    }

    /// Small text.
    pub fn text(&mut self, at: (f64, f64), anchor: Anchor, text: &str) {
        self.body.append(place(at, anchor, text));
    }

    /// Small text in bold.
    pub fn bold_text(&mut self, at: (f64, f64), anchor: Anchor, text: &str) {
        self.body.append(place(at, anchor, text).set("font-weight", "bold"));
    }

    /// Small text that is read from bottom to top, left of its point, with white around it.
    pub fn upright_text(&mut self, (x, y): (f64, f64), anchor: Anchor, text: &str) {
        let turn = format!("rotate(-90 {} {})", px(x), px(y));
        let text = place((x, y), anchor, text).set("transform", turn).set("stroke", "#ffffff");
        self.body.append(text.set("stroke-width", 3).set("paint-order", "stroke"));
    }

    /// A thin line: of a grid where it is `faint`, of an axis else.
    pub fn line(&mut self, from: (f64, f64), to: (f64, f64), faint: bool) {
        self.body.append(stroke(from, to).set("stroke", if faint { FAINT } else { INK }));
    }

    /// A thin dashed line: of something that is no series.
    pub fn mark(&mut self, from: (f64, f64), to: (f64, f64)) {
        self.body.append(stroke(from, to).set("stroke", INK).set("stroke-dasharray", "4 3"));
    }

    /// A bar across another bar.
    pub fn notch(&mut self, from: (f64, f64), to: (f64, f64)) {
        // White around it, so that it shows on dark bars too.
        for (color, width) in [("#ffffff", 5.0), ("#000000", 2.5)] {
            self.body.append(stroke(from, to).set("stroke", color).set("stroke-width", width));
        }
    }

    /// A filled and hatched area that tells what it stands for.
    pub fn area(&mut self, style: Style, (x, y): (f64, f64), size: (f64, f64), tip: &str) {
        let rectangle = || {
            let at = Rectangle::new().set("x", px(x)).set("y", px(y));
            at.set("width", px(size.0)).set("height", px(size.1))
        };
        let (color, hatch) = (style.color, style.hatch);
        let opacity = if hatch == Hatch::Solid { 1.0 } else { PALE };
        let ground = rectangle().set("fill", color).set("fill-opacity", opacity);
        self.body.append(ground.set("stroke", color).add(Title::new(tip)));
        if !matches!(hatch, Hatch::Solid | Hatch::Pale) {
            let id = format!("{}-{}-{hatch:?}", self.name, &color[1..]).to_lowercase();
            self.body.append(rectangle().set("fill", format!("url(#{id})")));
            self.hatches.insert(id.clone(), pattern(style).set("id", id));
        }
    }

    /// A line through `points`.
    pub fn curve(&mut self, style: Style, points: &[(f64, f64)]) {
        let points: Vec<String> =
            points.iter().map(|(x, y)| format!("{},{}", px(*x), px(*y))).collect();
        let line = Polyline::new().set("points", points.join(" ")).set("fill", "none");
        let line = line.set("stroke", style.color).set("stroke-width", 2);
        self.body.append(match style.dash {
            "none" => line,
            dash => line.set("stroke-dasharray", dash),
        });
    }

    /// A point that tells what it stands for.
    pub fn marker(&mut self, style: Style, (x, y): (f64, f64), tip: &str) {
        let (x, y, tip) = (px(x), px(y), Title::new(tip));
        let (data, stroked) = match style.marker {
            Marker::Circle => {
                let circle = Circle::new().set("cx", x).set("cy", y).set("r", 4);
                self.body.append(circle.set("fill", style.color).add(tip));
                return;
            }
            Marker::Square => ("m-3.5-3.5h7v7h-7z", false),
            Marker::Triangle => ("m0-5l4.7 8.2h-9.4z", false),
            Marker::Diamond => ("m0-5.2l5.2 5.2l-5.2 5.2l-5.2-5.2z", false),
            Marker::Wedge => ("m0 5l4.7-8.2h-9.4z", false),
            Marker::Cross => ("m-4-4l8 8m0-8l-8 8", true),
            Marker::Plus => ("m-5 0h10m-5-5v10", true),
            Marker::Bar => ("m0-5.5v11", true),
        };
        let path = Path::new().set("d", format!("M{x} {y}{data}")).add(tip);
        self.body.append(match stroked {
            true => path.set("stroke", style.color).set("stroke-width", 2.2).set("fill", "none"),
            false => path.set("fill", style.color),
        });
    }

    /// The picture as text, `height` pixels high, called `title` where it cannot be seen.
    #[must_use]
    pub fn finish(self, height: f64, title: &str) -> String {
        let (width, height) = (px(WIDTH), height.ceil());
        let mut document = Document::new()
            .set("viewBox", format!("0 0 {width} {height}"))
            .set("width", width)
            .set("height", height)
            .set("role", "img")
            .set("font-family", FONT)
            .set("font-size", SMALL)
            .set("fill", INK)
            .add(Title::new(title));
        if !self.hatches.is_empty() {
            let mut definitions = Definitions::new();
            self.hatches.into_values().for_each(|pattern| definitions.append(pattern));
            document = document.add(definitions);
        }
        // A ground of its own: pages may be dark.
        let ground = Rectangle::new().set("width", width).set("height", height);
        let mut text = document.add(ground.set("fill", "#ffffff")).add(self.body).to_string();
        text.push('\n');
        text
    }
}

fn place((x, y): (f64, f64), anchor: Anchor, text: &str) -> Text {
    let anchor = match anchor {
        Anchor::Start => "start",
        Anchor::Middle => "middle",
        Anchor::End => "end",
    };
    Text::new(text).set("x", px(x)).set("y", px(y)).set("text-anchor", anchor)
}

fn stroke(from: (f64, f64), to: (f64, f64)) -> Line {
    let line = Line::new().set("x1", px(from.0)).set("y1", px(from.1));
    line.set("x2", px(to.0)).set("y2", px(to.1))
}

/// The hatching of a style on a ground that shines through.
fn pattern(style: Style) -> Pattern {
    let data = match style.hatch {
        Hatch::Rising => "M-1 1l2-2M0 8l8-8M7 9l2-2",
        Hatch::Falling => "M-1 7l2 2M0 0l8 8M7-1l2 2",
        Hatch::Crossed => "M-1 1l2-2M0 8l8-8M7 9l2-2M-1 7l2 2M0 0l8 8M7-1l2 2",
        Hatch::Lying => "M0 2h8M0 6h8",
        Hatch::Upright => "M2 0v8M6 0v8",
        Hatch::Dotted => "M1 2h2M5 6h2",
        Hatch::Solid | Hatch::Pale => "",
    };
    let lines = Path::new().set("d", data).set("stroke", style.color).set("stroke-width", 2);
    let pattern = Pattern::new().set("width", 8).set("height", 8).add(lines);
    pattern.set("patternUnits", "userSpaceOnUse")
}

/// A text in lines of at most `width` pixels.
fn wrap(text: &str, width: f64) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if text_width(line, SMALL) + text_width(word, SMALL) + 8.0 <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_a_note_keep_every_word_and_the_width() {
        let note = "a note of some more words than fit on one of these lines";
        let lines = wrap(note, 160.0);
        assert!(lines.len() > 1 && lines.iter().all(|line| text_width(line, SMALL) <= 160.0));
        assert_eq!(lines.join(" "), note);
    }

    #[test]
    fn text_is_escaped_and_a_hatching_is_defined_once() {
        let mut canvas = Canvas::new("test");
        for _ in 0..2 {
            canvas.area(Style::of(1), (0.0, 0.0), (10.0, 10.0), "<a & b>");
        }
        let text = canvas.finish(10.0, "x < y");
        assert!(text.contains("&lt;a &amp; b&gt;") && text.contains("<title>x &lt; y</title>"));
        assert_eq!(text.matches("<pattern").count(), 1);
        assert_eq!(text.matches("url(#").count(), 2);
    }
}
