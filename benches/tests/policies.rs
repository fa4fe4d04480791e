//! `policies` as a user calls it: figures that can be true, and what is wrong is one line.

use std::process::{Command, Output};

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
    let table = text("--trace loop,bursts --requests 60000 --percents 5,25");
    let lines: Vec<Vec<&str>> =
        table.lines().map(|line| line.split_whitespace().collect()).take(5).collect();
    // The head has three words before its second column.
    let names: Vec<&str> = lines[0].iter().skip(2).copied().collect();
    let ratio = |trace: &str, percent: &str, policy: &str| -> f64 {
        let row = lines.iter().find(|row| row[..2] == [trace, percent]).expect("a row");
        row[names.iter().position(|name| *name == policy).expect("a column")].parse().unwrap()
    };
    for row in &lines[1..] {
        let best = ratio(row[0], row[1], "optimum");
        let hits = row[3..].iter().map(|hits| hits.parse::<f64>().expect("a number"));
        assert!(row.len() == names.len() && hits.into_iter().all(|hits| hits <= best), "{row:?}");
    }
    let zero = |policy| ratio("loop", "25", policy) == 0.0;
    assert!(zero("lru") && zero("clock"), "a loop that does not fit washes everything out");
    assert!(ratio("loop", "25", "s3-fifo") > 0.8 * ratio("loop", "25", "optimum"));
    assert!(ratio("bursts", "5", "s3-fifo") > ratio("bursts", "5", "lru"));
}

#[test]
fn the_table_sums_up() {
    let policies = if cfg!(feature = "peers") { "s3-fifo,quick_cache" } else { "s3-fifo" };
    let table = text(&format!("--trace drift --requests 20000 --percents 10 --policy {policies}"));
    assert_eq!(table.lines().filter(|line| line.starts_with("drift")).count(), 1, "{table}");
    assert_eq!(table.contains("over all rows"), cfg!(feature = "peers"), "{table}");
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
        ("--percents 0", "`0` is no percentage"),
        ("--percents x", "`x` is no percentage"),
        ("--policy ,", "no policy \"\""),
        ("--requests 0", "`0` is no count"),
        ("sort", "sort"),
    ] {
        let output = policies(arguments);
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{arguments}: {error}");
        assert!(error.contains(says) && error.lines().count() == 1, "{arguments}: {error}");
    }
    assert!(text("--help").contains("Usage: policies"));
}
