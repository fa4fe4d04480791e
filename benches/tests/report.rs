//! The program `report`, as it is called.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// An empty directory of the test's own.
fn dir(name: &str) -> PathBuf {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = fs::remove_dir_all(&dir);
    fs::create_dir_all(&dir).unwrap();
    dir
}

fn report(arguments: &[&str], results: &Path) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_report"));
    command.args(arguments).arg("--results").arg(results).output().unwrap()
}

const SUITE: &str = r#"{"kind":"suite","rows":[{"trace":"t","pages":"p","page_bytes":4096,"percent":10,
    "cache":"zcache","pages_per_mib":700,"hit_ratio":0.5}]}"#;

#[test]
fn a_suite_becomes_a_page_and_two_pictures() {
    let dir = dir("report-draws");
    let results = dir.join("suite.json");
    fs::write(&results, SUITE).unwrap();
    let output = report(&[], &results);
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    let read = |name: &str| fs::read_to_string(dir.join(name)).unwrap();
    let (page, bars, curves) =
        (read("report.html"), read("pages-per-mib.svg"), read("hit-ratio.svg"));
    assert!(bars.contains("\n700\n") && curves.contains("zcache: 0.5 at 10"));
    // The page has the same pictures, and says so where there are no rows.
    assert!(page.contains(&bars) && page.contains(&curves) && page.contains("\nno rows\n"));
    let out = dir.join("elsewhere/deep");
    let output = report(&["--out", out.to_str().unwrap()], &results);
    assert!(output.status.success(), "{output:?}");
    assert_eq!(fs::read_to_string(out.join("report.html")).unwrap(), page);
}

/// Pictures that are kept beside the suite that they were drawn from.
#[test]
fn pictures_that_are_kept_are_those_of_their_suite() {
    let kept = Path::new(env!("CARGO_MANIFEST_DIR")).join("results");
    let results = kept.join("suite.json");
    if !results.exists() {
        return;
    }
    let dir = dir("report-kept");
    let output = report(&["--out", dir.to_str().unwrap()], &results);
    assert!(output.status.success(), "{output:?}");
    for entry in fs::read_dir(&dir).unwrap() {
        let name = entry.unwrap().file_name();
        let drawn = fs::read(dir.join(&name)).unwrap();
        let same = fs::read(kept.join(&name)).is_ok_and(|kept| kept == drawn);
        assert!(same, "{name:?} is not the suite's: cargo run --release -p benches --bin report");
    }
}

#[test]
fn what_is_no_suite_is_one_line_and_exit_code_2() {
    let dir = dir("report-errors");
    let missing = dir.join("missing.json");
    let bad = dir.join("bad.json");
    let calls: [(&[&str], Option<&str>); 8] = [
        (&[], None),
        (&["measure"], None),
        (&[], Some("{")),
        (&["measure"], Some(r#"{"kind":"run"}"#)),
        (&[], Some(r#"{"kind":"suite","rows":[{"cache":1}]}"#)),
        (&["--out", "x", "measure"], Some(SUITE)),
        (&["--pages", "x"], Some(SUITE)),
        (&["draw"], Some(SUITE)),
    ];
    for (arguments, text) in calls {
        if let Some(text) = text {
            fs::write(&bad, text).unwrap();
        }
        let results = if text.is_some() { &bad } else { &missing };
        let output = report(arguments, results);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{arguments:?} {text:?}: {said}");
        assert_eq!(said.lines().count(), 1, "{said}");
        assert!(said.starts_with("report: ") && output.stdout.is_empty(), "{said}");
    }
    let left: Vec<_> = fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(left, [bad]);
}
