//! `policies` as a user calls it: figures that can be true, and what is wrong is one line.

use std::process::{Command, Output};

use serde_json::Value;

fn policies(arguments: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_policies"));
    command.args(arguments.split_whitespace()).output().expect("policies starts")
}

fn text(arguments: &str) -> String {
    let output = policies(arguments);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments}: {errors}");
    String::from_utf8(output.stdout).expect("text")
}

#[test]
fn nobody_beats_the_optimum_and_a_loop_is_lost_on_lru() {
    let rows = text("--trace loop,bursts --requests 60000 --percents 5,25 --json");
    let rows: Vec<Value> =
        rows.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let ratio = |trace: &str, percent: f64, policy: &str| {
        let is = |row: &&Value| {
            row["trace"] == trace && row["percent"] == percent && row["policy"] == policy
        };
        rows.iter().find(is).expect("a row")["hit_percent"].as_f64().expect("a number")
    };
    for row in &rows {
        let (trace, percent) = (row["trace"].as_str().unwrap(), row["percent"].as_f64().unwrap());
        let hits = row["hit_percent"].as_f64().unwrap();
        assert!((0.0..=ratio(trace, percent, "optimum")).contains(&hits), "{row}");
    }
    let zero = |policy| ratio("loop", 25.0, policy) == 0.0;
    assert!(zero("lru") && zero("clock"), "a loop that does not fit washes everything out");
    assert!(ratio("loop", 25.0, "s3-fifo") > 0.8 * ratio("loop", 25.0, "optimum"));
    assert!(ratio("bursts", 5.0, "s3-fifo") > ratio("bursts", 5.0, "lru"));
}

#[test]
fn the_table_sums_up_and_the_picture_is_drawn() {
    let dir = tempfile::tempdir().expect("a directory");
    let svg = dir.path().join("distances.svg");
    let policies = if cfg!(feature = "peers") { "s3-fifo,quick_cache" } else { "s3-fifo" };
    let table = text(&format!(
        "--trace drift --requests 20000 --percents 10 --policy {policies} --svg {}",
        svg.display()
    ));
    assert_eq!(table.lines().filter(|line| line.starts_with("drift")).count(), 1, "{table}");
    assert_eq!(table.contains("over all rows"), cfg!(feature = "peers"), "{table}");
    let svg = std::fs::read_to_string(svg).expect("a picture");
    assert!(svg.starts_with("<svg") && svg.contains("s3-fifo") && svg.contains("drift"));
}

#[cfg(feature = "peers")]
#[test]
fn leaving_one_out_tells_of_each_trace_and_each_setting() {
    let text = text("choose --trace scans,front --requests 20000 --percents 5");
    for line in ["scans ", "front ", "mean: as shipped", "no door", "ageing at 24"] {
        assert!(text.lines().any(|at| at.starts_with(line)), "{line}: {text}");
    }
}

#[test]
fn what_is_wrong_is_one_line() {
    for (arguments, says) in [
        ("--trace nowhere.u64", "nowhere.u64"),
        ("--policy best", "no policy \"best\""),
        ("--percents 0", "0 percent"),
        ("--percents x", "\"x\" is no number"),
        ("--policy ,", "no policy is asked for"),
        ("--requests 0", "no request"),
        ("sort", "sort"),
    ] {
        let output = policies(arguments);
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{arguments}: {error}");
        assert!(error.contains(says) && error.lines().count() == 1, "{arguments}: {error}");
    }
    assert!(text("--help").starts_with("usage: policies"));
}
