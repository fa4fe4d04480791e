//! What holds for every picture.

use svg::node::element::tag::Type;
use svg::parser::Event;

use crate::charts::canvas::{SMALL, WIDTH, text_width};
use crate::charts::figures::{Figure, figures};
use crate::charts::fixture::suite;
use crate::charts::page::page;
use crate::charts::suite::Suite;

fn empty() -> Suite {
    Suite::parse(r#"{"kind":"suite"}"#).expect("a suite")
}

#[test]
fn the_same_rows_make_the_same_bytes_in_any_order() {
    let (suite, mut turned) = (suite(14), suite(14));
    let drawn = page(&suite, &figures(&suite));
    assert_eq!(drawn, page(&suite, &figures(&suite)));
    turned.rows.reverse();
    turned.scaling.reverse();
    assert_eq!(drawn, page(&turned, &figures(&turned)));
}

/// The box of a text: its left, upper, right and lower edge.
type Edges = (f64, f64, f64, f64);

/// Every text of a picture with its box, by a generous measure of its width, and the picture's height.
fn texts(svg: &str) -> (Vec<(String, Edges)>, f64) {
    let (mut height, mut texts, mut open) = (0.0, Vec::new(), None);
    for event in svg::read(svg).expect("a picture") {
        match event {
            Event::Tag("svg", Type::Start, attributes) => {
                height = attributes["height"].parse().expect("a height");
            }
            Event::Tag("text", Type::Start, attributes) => open = Some(attributes),
            Event::Text(text) if open.is_some() => {
                let (attributes, text) = (open.take().expect("a text"), text.trim());
                let number = |name: &str| attributes[name].parse::<f64>().expect(name);
                let size = attributes.get("font-size");
                let size = size.map_or(SMALL, |size| size.parse().expect("a size"));
                assert!(size >= 12, "{text}: {size} px");
                let len = text_width(text, size);
                let before = match &*attributes["text-anchor"] {
                    "start" => 0.0,
                    "middle" => len / 2.0,
                    _ => len,
                };
                let (x, y) = (number("x"), number("y"));
                let edges = match attributes.get("transform") {
                    Some(_) => (x - 10.0, y + before - len, x + 2.0, y + before),
                    None => (x - before, y - 10.0, x - before + len, y + 2.0),
                };
                texts.push((text.to_owned(), edges));
            }
            _ => {}
        }
    }
    (texts, height)
}

#[test]
fn no_text_is_small_or_clipped_or_lies_over_another() {
    for count in [1, 2, 3, 14] {
        for figure in figures(&suite(count)) {
            let (texts, height) = texts(&figure.svg());
            assert!(texts.len() > 5, "{}", figure.id());
            for (at, (text, (left, top, right, bottom))) in texts.iter().enumerate() {
                let inside = *left >= 0.0 && *right <= WIDTH && *top >= 0.0 && *bottom <= height;
                assert!(inside, "{}, {count} traces: {text}", figure.id());
                for (other, edges) in &texts[..at] {
                    let apart = edges.2 <= *left
                        || *right <= edges.0
                        || edges.3 <= *top
                        || *bottom <= edges.1;
                    assert!(apart, "{}, {count} traces: {text} over {other}", figure.id());
                }
            }
        }
    }
}

#[test]
fn a_figure_without_rows_says_so_and_shows_no_point() {
    for figure in figures(&empty()) {
        let svg = figure.svg();
        assert!(svg.contains("\nno rows\n"), "{svg}");
        assert!(!svg.contains("<circle") && !svg.contains("<polyline"), "{svg}");
    }
}

#[test]
fn a_value_that_is_absent_is_a_point_less() {
    let (whole, mut less) = (suite(1), suite(1));
    let ours = |run: &crate::charts::suite::Run| run.cache == "foyer-lru";
    less.rows.iter_mut().filter(|run| ours(run)).for_each(|run| {
        run.hit_ratio = None;
        run.pages_per_mib = None;
    });
    let counts = |suite: &Suite| -> Vec<usize> {
        let count = |figure: &Figure| match figure {
            Figure::Bars(bars) => bars.groups.iter().map(|group| group.bars.len()).sum(),
            Figure::Curves(curves) => {
                let curves = curves.panels.iter().flat_map(|panel| &panel.curves);
                curves.map(|curve| curve.points.len()).sum::<usize>()
            }
        };
        figures(suite).iter().map(count).collect()
    };
    assert_eq!(counts(&whole), [7, 21, 7, 28, 28, 3, 3]);
    assert_eq!(counts(&less), [6, 18, 7, 28, 28, 3, 3]);
}

#[test]
fn runs_over_phases_are_counted_but_not_drawn() {
    let (plain, mut with) = (suite(1), suite(1));
    let mut run = with.rows[0].clone();
    run.phases = Some("A,B".into());
    run.cache = "another".into();
    with.rows.push(run);
    let [plain_page, with_page] = [&plain, &with].map(|suite| page(suite, &figures(suite)));
    assert!(
        !with_page.contains("another cache")
            && with_page.contains("not drawn: 1 over traces of phases")
    );
    let figures_of = |page: &str| page[page.find("<figure").expect("figures")..].to_owned();
    assert_eq!(figures_of(&plain_page), figures_of(&with_page));
}

#[test]
fn runs_that_have_no_percentage_are_told_of_beside_the_hit_ratios() {
    let mut suite = suite(1);
    suite.rows[0].percent = None;
    let Figure::Curves(curves) = &figures(&suite)[1] else { panic!("curves") };
    assert!(curves.notes.iter().any(|note| note.contains("1 run")), "{:?}", curves.notes);
    let points = curves.panels[0].curves.iter().map(|curve| curve.points.len());
    assert_eq!(points.sum::<usize>(), 20);
}

#[test]
fn the_page_stands_alone_and_names_what_was_measured_where() {
    let suite = suite(2);
    let page = page(&suite, &figures(&suite));
    assert!(page.contains("a &lt;fast&gt; &amp; quiet one, 2 cores") && page.contains("moka 0.12"));
    assert!(page.contains("--bin report"));
    let links = page.replace("http://www.w3.org/2000/svg", "");
    for outside in ["http", "src=", "href=", "<script", "@import"] {
        assert!(!links.contains(outside), "{outside}");
    }
}

#[test]
fn what_was_timed_in_turns_is_a_table_where_there_are_rows() {
    let row = r#"{"kind":"suite","cost":[{"what":"hit","keys":300,"threads":1,"pages":"a<b",
        "page_bytes":4096,"cache":"zcache","cpu_p10_ns":376.4,"p10_ratio":1.098}]}"#;
    let [with, without] =
        [Suite::parse(row).expect("a suite"), empty()].map(|suite| page(&suite, &figures(&suite)));
    let line = "<td class=\"name\">hit</td><td class=\"name\">300 keys</td><td>1</td><td>376</td>";
    assert!(with.contains(line) && with.contains("a&lt;b"), "{with}");
    assert!(!without.contains("CPU time"), "{without}");
}

#[test]
fn page_sizes_of_one_file_are_sets_of_their_own() {
    let mut suite = suite(1);
    suite.rows.iter_mut().filter(|run| run.cache == "moka").for_each(|run| {
        run.page_bytes = Some(512.0);
    });
    let Figure::Bars(bars) = &figures(&suite)[0] else { panic!("bars") };
    let groups: Vec<_> =
        bars.groups.iter().map(|group| (&*group.name, group.mark, group.bars.len())).collect();
    let wanted =
        [("mem-redis-4k, 512 B", Some(2048.0), 2), ("mem-redis-4k, 4096 B", Some(256.0), 5)];
    assert_eq!(groups, wanted);
}

#[test]
fn medians_and_spans_are_those_of_the_rows() {
    let mut suite = suite(1);
    let of_moka = suite
        .rows
        .iter_mut()
        .filter(|run| run.cache == "moka" && run.codec.as_deref() == Some("lz4"));
    for (run, held) in of_moka.zip([300.0, 100.0, 200.0]) {
        run.pages_per_mib = Some(held);
    }
    let Figure::Bars(bars) = &figures(&suite)[0] else { panic!("bars") };
    let bar = bars.groups[0].bars.iter().find(|bar| bars.series[bar.series].name == "moka lz4");
    let bar = bar.expect("a bar of moka");
    assert_eq!((bar.value, bar.span), (200.0, (100.0, 300.0)));
    assert_eq!(bars.groups[0].mark, Some(256.0));
}
