//! Bars in groups, in as many rows as legible bars take.

use crate::charts::canvas::{Anchor, Canvas, Key, LINE, SMALL, WIDTH, text_width};
use crate::charts::scale::{Scale, Spread, label};
use crate::charts::series::{Entry, entries_of};

/// Pixels of a bar at most, and slots of bars and gaps in a row at most: 15 px for the figure over each.
const BAR: f64 = 26.0;
const SLOTS: usize = 48;
const HEIGHT: f64 = 230.0;
const LEFT: f64 = 66.0;
const RIGHT: f64 = 12.0;

/// One bar.
#[derive(Debug, Clone)]
pub struct Bar {
    /// Number of the series.
    pub series: usize,
    /// Its length.
    pub value: f64,
    /// The least and the most of what `value` is the median of.
    pub span: (f64, f64),
    /// A part of it that is marked.
    pub notch: Option<f64>,
}

/// Bars side by side.
#[derive(Debug, Clone)]
pub struct Group {
    /// What they have in common.
    pub name: String,
    /// The bars, in the order of their series.
    pub bars: Vec<Bar>,
    /// A line to hold them against.
    pub mark: Option<f64>,
}

/// A figure of bars.
#[derive(Debug)]
pub struct Bars {
    /// A word that tells it from others.
    pub id: &'static str,
    /// What is shown.
    pub title: &'static str,
    /// How it is to be read.
    pub notes: Vec<String>,
    /// What bars measure, and in what.
    pub unit: &'static str,
    /// Every series that may occur.
    pub series: Vec<Entry>,
    /// The groups, from left to right.
    pub groups: Vec<Group>,
}

impl Bars {
    /// The figure as SVG.
    #[must_use]
    pub fn svg(&self) -> String {
        let mut canvas = Canvas::new(self.id);
        let bars = || self.groups.iter().flat_map(|group| &group.bars);
        let legend = entries_of(&self.series, bars().map(|bar| bar.series));
        let mut y = canvas.head(self.title, &self.notes, Key::Area, &legend);
        if self.groups.is_empty() {
            canvas.text((WIDTH / 2.0, y + 40.0), Anchor::Middle, "no rows");
            return canvas.finish(y + 80.0, self.title);
        }
        for row in rows(&self.groups) {
            self.row(&mut canvas, row, y);
            y += HEIGHT + 2.0 * LINE;
        }
        canvas.finish(y, self.title)
    }

    /// A row of groups whose upper edge is at `top`.
    fn row(&self, canvas: &mut Canvas, groups: &[Group], top: f64) {
        let bottom = top + HEIGHT;
        let bars = || groups.iter().flat_map(|group| &group.bars);
        // The figure over the longest bar needs room too.
        let digits = bars().map(|bar| text_width(&label(bar.value), SMALL)).fold(0.0, f64::max);
        let stretch = HEIGHT / (HEIGHT - digits - 14.0);
        let values = bars().flat_map(|bar| {
            [bar.value, bar.span.1, bar.notch.unwrap_or(0.0)].map(|value| value * stretch)
        });
        let values = values.chain(groups.iter().filter_map(|group| group.mark));
        let Some(scale) = Scale::new(&Spread::FromZero, values, (bottom, top)) else { return };
        for tick in scale.ticks() {
            let Some(y) = scale.at(*tick) else { continue };
            canvas.line((LEFT, y), (WIDTH - RIGHT, y), true);
            canvas.text((LEFT - 6.0, y + 4.0), Anchor::End, &label(*tick));
        }
        canvas.upright_text((18.0, (top + bottom) / 2.0), Anchor::Middle, self.unit);
        let slots: usize = groups.iter().map(slots).sum();
        let width = ((WIDTH - LEFT - RIGHT) / slots as f64).min(BAR);
        let mut x = LEFT;
        for group in groups {
            let start = x + width * 0.5;
            let least = (slots_for_name(&group.name, width) - group.bars.len() as f64).max(0.0);
            let mut at = start + least * width / 2.0;
            let room = width * (group.bars.len() as f64 + least);
            let middle = start + room / 2.0;
            if let Some(y) = group.mark.and_then(|mark| scale.at(mark)) {
                canvas.mark((start, y), (start + room, y));
            }
            for bar in &group.bars {
                let tip = format!("{}, {}", group.name, self.series[bar.series].name);
                self.bar(canvas, bar, &tip, &scale, (at, width, bottom));
                at += width;
            }
            canvas.text((middle, bottom + LINE), Anchor::Middle, &group.name);
            x = start + room + width * 0.5;
        }
        canvas.line((LEFT, bottom), (WIDTH - RIGHT, bottom), false);
        canvas.line((LEFT, top), (LEFT, bottom), false);
    }

    /// One bar and its figure, from `left` on, `width` wide with what parts it from the next.
    fn bar(
        &self,
        canvas: &mut Canvas,
        bar: &Bar,
        tip: &str,
        scale: &Scale,
        (left, width, bottom): (f64, f64, f64),
    ) {
        let Some(high) = scale.at(bar.value) else { return };
        let (style, middle, inner) =
            (self.series[bar.series].style, left + width / 2.0, width - 3.0);
        let tip = format!("{tip}: {}", label(bar.value));
        canvas.area(style, (left + 1.5, high), (inner, bottom - high), &tip);
        let mut upper = high;
        if bar.span.0 < bar.span.1 {
            if let (Some(least), Some(most)) = (scale.at(bar.span.0), scale.at(bar.span.1)) {
                canvas.line((middle, least), (middle, most), false);
                upper = upper.min(most);
            }
        }
        if let Some(y) = bar.notch.and_then(|notch| scale.at(notch)) {
            canvas.notch((left + 1.5, y), (left + 1.5 + inner, y));
            upper = upper.min(y);
        }
        canvas.upright_text((middle + 4.0, upper - 5.0), Anchor::Start, &label(bar.value));
    }
}

/// Slots that the name below a group takes where bars are `width` pixels wide.
fn slots_for_name(name: &str, width: f64) -> f64 {
    ((text_width(name, SMALL) + 8.0) / width).ceil()
}

/// Bars and gap of a group; a long name needs more.
fn slots(group: &Group) -> usize {
    let name = slots_for_name(&group.name, (WIDTH - LEFT - RIGHT) / SLOTS as f64);
    group.bars.len().max(name as usize) + 1
}

/// The groups in rows, each as full as the next.
fn rows(groups: &[Group]) -> Vec<&[Group]> {
    let total: usize = groups.iter().map(slots).sum();
    let share = total.div_ceil(total.div_ceil(SLOTS).max(1));
    let (mut rows, mut rest) = (Vec::new(), groups);
    while !rest.is_empty() {
        let mut taken = 0;
        let fits = |group: &&Group| {
            let before = taken;
            taken += slots(group);
            before == 0 || (taken <= SLOTS && before < share)
        };
        let count = rest.iter().take_while(fits).count();
        let (row, left) = rest.split_at(count);
        rows.push(row);
        rest = left;
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(name: &str, bars: usize) -> Group {
        let bar = |series| Bar { series, value: 10.0, span: (9.0, 11.0), notch: None };
        Group { name: name.into(), bars: (0..bars).map(bar).collect(), mark: None }
    }

    #[test]
    fn rows_hold_every_group_once_and_none_is_too_long() {
        for count in 0..20 {
            for bars in [1, 6, 9, 60] {
                let groups: Vec<Group> =
                    (0..count).map(|index| group(&format!("pages-{index}"), bars)).collect();
                let rows = rows(&groups);
                assert_eq!(rows.iter().map(|row| row.len()).sum::<usize>(), count);
                for row in rows {
                    assert!(row.len() == 1 || row.iter().map(slots).sum::<usize>() <= SLOTS);
                }
            }
        }
    }
}
