//! The program `report`, as it is called.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

fn report(results: &Path, out: &Path) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_report"));
    command.arg("--results").arg(results).arg("--out").arg(out).output().unwrap()
}

/// What is kept beside a suite is drawn from it.
#[test]
fn tables_and_pictures_that_are_kept_are_those_of_their_suite() {
    let results = Path::new(env!("CARGO_MANIFEST_DIR")).join("results");
    for kept in [results.clone(), results.join("whole")] {
        let out = tempfile::tempdir().unwrap();
        let output = report(&kept.join("suite.json"), out.path());
        assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
        assert_eq!(fs::read_dir(out.path()).unwrap().count(), 3);
        for entry in fs::read_dir(out.path()).unwrap() {
            let name = entry.unwrap().file_name();
            let drawn = fs::read(out.path().join(&name)).unwrap();
            let same = fs::read(kept.join(&name)).is_ok_and(|kept| kept == drawn);
            assert!(same, "{name:?} is not the suite's: run the program report");
        }
    }
}

#[test]
fn a_suite_without_rows_of_a_cache_is_drawn_too() {
    let dir = tempfile::tempdir().unwrap();
    let suite = dir.path().join("suite.json");
    let row = r#"{"trace":"t","pages":"p-4k","cache":"zcache","codec":"lz4","policy":"s3fifo",
        "percent":10,"budget_bytes":1048576,"hit_ratio":0.5,"pages_per_mib":700}"#;
    for rows in [row, ""] {
        fs::write(&suite, format!(r#"{{"kind":"suite","rows":[{rows}]}}"#)).unwrap();
        let output = report(&suite, dir.path());
        assert!(output.status.success(), "{output:?}");
        let bars = fs::read_to_string(dir.path().join("pages-per-mib.svg")).unwrap();
        assert!(bars.starts_with("<svg") && bars.contains("700") != rows.is_empty(), "{bars}");
    }
}

#[test]
fn what_is_no_suite_is_one_line_and_exit_code_2() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("suite.json");
    for text in [None, Some("{"), Some(r#"{"kind":"run"}"#), Some(r#"{"kind":"suite","rows":1}"#)] {
        if let Some(text) = text {
            fs::write(&file, text).unwrap();
        }
        let output = report(&file, dir.path());
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{text:?}: {said}");
        assert!(said.lines().count() == 1 && said.starts_with("report: "), "{said}");
    }
}
