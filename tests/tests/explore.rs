//! The example `explore`, as it is called: whatever it is given, it prints a table or one clear
//! line.
#![cfg(not(zcache_loom))]

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::LazyLock;

use tests::pattern;

/// The example, which cargo builds for a run of all tests, but not for a run of this one.
static PROGRAM: LazyLock<PathBuf> = LazyLock::new(|| {
    // TARGET/PROFILE/deps/TEST
    let test = env::current_exe().expect("a path");
    let dir = test.ancestors().nth(2).expect("a profile's folder");
    let profile = match dir.file_name().and_then(|name| name.to_str()) {
        Some("debug") | None => "dev",
        Some(profile) => profile,
    };
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["build", "--quiet", "--locked", "--package", "zcache", "--example", "explore"]);
    cargo.args(["--profile", profile, "--target-dir"]).arg(dir.parent().expect("a target folder"));
    let built = cargo.current_dir(env!("CARGO_MANIFEST_DIR")).output().expect("cargo starts");
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    dir.join("examples/explore").with_extension(env::consts::EXE_EXTENSION)
});

/// An empty folder of the test's own.
fn folder(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).expect("a folder");
    folder
}

fn explore(arguments: &str, files: &[&Path]) -> Output {
    let mut command = Command::new(&*PROGRAM);
    command.arg("--quiet").args(arguments.split_whitespace()).args(files);
    command.stdin(Stdio::null()).output().expect("explore starts")
}

/// The table that it prints.
fn table(arguments: &str, files: &[&Path]) -> String {
    let output = explore(&format!("--budget 1MB --ops 2000 --keys 300 {arguments}"), files);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!((output.status.code(), &*said), (Some(0), ""), "{arguments} {files:?}");
    let table = String::from_utf8(output.stdout).expect("text");
    assert!(table.contains("all equal") && table.contains("hit ratio"), "{table}");
    table
}

/// The line that it says instead of a table.
fn line(arguments: &str, files: &[&Path]) -> String {
    let output = explore(arguments, files);
    let said = String::from_utf8(output.stderr).expect("text");
    assert_eq!(output.status.code(), Some(2), "{arguments} {files:?}: {said}");
    assert!(said.starts_with("explore: ") && said.lines().count() == 1, "{said}");
    assert!(output.stdout.is_empty());
    said
}

/// Text of `len` bytes.
fn text(len: usize) -> Vec<u8> {
    let mut text = vec![0; len];
    pattern::words(1, 1, &mut text);
    text
}

#[test]
fn few_pages_and_short_ends_give_a_table_without_a_dictionary() {
    let file = folder("explore-short").join("some.bin");
    for (len, pages) in [(1, 1), (100, 1), (4096, 1), (4097, 2), (5000, 2), (63 * 4096, 63)] {
        fs::write(&file, text(len)).unwrap();
        let table = table("", &[&file]);
        assert!(table.starts_with(&format!("some: {pages} pages, ")), "{len} bytes: {table}");
        let left_out = format!("zstd:3+dict    left out: {pages} pages are too few");
        assert!(table.contains(&left_out), "{len} bytes: {table}");
    }
    assert!(line("--codec zstd:3+dict", &[&file]).contains("63 pages are too few"));
    fs::write(&file, text(400 * 4096 + 1)).unwrap();
    let trained = table("--codec zstd:3+dict", &[&file]);
    assert!(trained.starts_with("some: 401 pages, ") && !trained.contains("left out"), "{trained}");
    // Too much of the same for a dictionary.
    fs::write(&file, vec![0; 64 * 4096]).unwrap();
    table("", &[&file]);
}

#[test]
fn files_without_bytes_are_left_out_where_there_are_others() {
    let folder = folder("explore-empty");
    let [empty, some, none] = ["empty.bin", "some.bin", "none"].map(|name| folder.join(name));
    fs::write(&empty, "").unwrap();
    assert!(line("", &[&empty]).contains("empty.bin: the file is empty"));
    assert!(line("", &[&folder]).contains("empty.bin: the file is empty"));
    fs::write(&some, text(9000)).unwrap();
    for files in [&[&*empty, &*some][..], &[&*folder]] {
        let table = table("", files);
        assert!(table.starts_with("some: 3 pages, "), "{table}");
        assert!(table.contains("empty.bin: the file is empty"), "{table}");
    }
    fs::create_dir(&none).unwrap();
    assert!(line("", &[&none]).contains("no .bin or .bin.zst file"));
    assert!(line("", &[&folder.join("missing")]).contains("missing: "));
}

#[test]
fn a_packed_file_is_unpacked_up_to_a_limit_and_refused_where_it_is_none() {
    let folder = folder("explore-packed");
    let [bomb, fake, cut] =
        ["bomb.bin.zst", "fake.bin.zst", "cut.bin.zst"].map(|name| folder.join(name));
    // Frames of 32 MiB of zeros, one after the other: 4 GiB.
    let frame = zstd::bulk::compress(&vec![0; 32 << 20], 19).unwrap();
    fs::write(&bomb, frame.repeat(128)).unwrap();
    assert!(fs::metadata(&bomb).unwrap().len() < 1 << 20, "small as it is");
    let table = table("--most 3000KB", &[&bomb]);
    assert!(table.starts_with("bomb: 732 pages, "), "{table}");
    assert!(table.contains("bomb.bin.zst: all but 2998272 bytes"), "{table}");
    fs::write(&fake, "no zstd").unwrap();
    assert!(line("", &[&fake]).contains("fake.bin.zst: "));
    fs::write(&cut, &frame[..frame.len() / 2]).unwrap();
    assert!(line("", &[&cut]).contains("cut.bin.zst: "));
}

#[test]
fn numbers_are_taken_with_any_unit_and_refused_in_one_line_where_they_are_too_large() {
    let some = folder("explore-numbers").join("some.bin");
    fs::write(&some, text(9000)).unwrap();
    let (full, less) = ("2.0", "1.9");
    let units = [
        ("2MiB", full),
        ("2M", full),
        ("2MB", less),
        ("2mb", less),
        ("2048k", full),
        ("2048KiB", full),
        ("2000KB", less),
        ("2097152", full),
        ("2097152B", full),
    ];
    for (budget, shown) in units {
        let table = table(&format!("--budget {budget}"), &[&some]);
        assert!(table.contains(&format!("a cache of {shown} MiB")), "{budget}: {table}");
    }
    let most = u64::MAX;
    for (arguments, says) in [
        ("--budget 64XB".to_owned(), "no size"),
        ("--budget 1.5G".to_owned(), "no size"),
        ("--budget 0".to_owned(), "0 bytes"),
        (format!("--budget {most}"), "too large"),
        (format!("--budget {most}0"), "too large"),
        ("--budget 17179869183GiB".to_owned(), "too large"),
        ("--budget 1025G".to_owned(), "1024GiB or less"),
        ("--budget 4K".to_owned(), "bytes"),
        (format!("--keys {most}"), "--keys is 1 to"),
        (format!("--keys {most}0"), "too large"),
        ("--keys 0".to_owned(), "--keys is 1 to"),
        ("--ops 1".to_owned(), "--ops 2 or more"),
        (format!("--ops {most}0"), "too large"),
        ("--skew nan".to_owned(), "--skew"),
        ("--page-size 4KB".to_owned(), "power of two"),
        ("--page-size 1M".to_owned(), "power of two"),
        ("--most 0".to_owned(), "0 bytes"),
        ("--codec zstd:99".to_owned(), "99"),
        ("--codec lz4,snappy".to_owned(), "no codec `snappy`"),
        ("--miss 5".to_owned(), "no time"),
        ("--miss us".to_owned(), "no time"),
        (format!("--miss {most}s"), "no time"),
    ] {
        let said = line(&arguments, &[&some]);
        assert!(said.contains(says), "{arguments}: {said}");
    }
    for wrong in ["some-0k.bin", "some-3k.bin", "some-99999999k.bin"] {
        let file = some.with_file_name(wrong);
        fs::copy(&some, &file).unwrap();
        assert!(line("", &[&file]).contains("give --page-size"));
        let table = table("--page-size 4K", &[&file]);
        assert!(table.contains(": 3 pages, "), "{table}");
    }
}

#[test]
fn codecs_stand_beside_each_other_and_one_is_found() {
    let some = folder("explore-codecs").join("some.bin");
    fs::write(&some, text(400 * 4096)).unwrap();
    let all = table("", &[&some]);
    let columns = |table: &str| {
        let header = table.lines().find(|line| line.ends_with(" uncompressed")).expect("a header");
        header.split_whitespace().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(columns(&all), ["lz4", "zstd:3", "zstd:3+dict", "auto", "uncompressed"]);
    assert!(all.contains("auto: ended with "), "{all}");
    let two = table("--codec zstd:1,zstd:1,none --miss 20ms", &[&some]);
    assert_eq!(columns(&two), ["zstd:1", "none", "uncompressed"]);
    assert!(two.contains("a request where a miss takes 20ms") && !two.contains("auto:"), "{two}");
    // What is not compressed is what the others are compared with.
    let pays = two.lines().find(|line| line.trim_start().starts_with("pays from")).expect("a row");
    assert!(pays.trim_end().ends_with(" -"), "{pays}");
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let mut command = Command::new(&*PROGRAM);
    command.args(["--help"]).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("explore starts");
    drop(child.stdout.take());
    let output = child.wait_with_output().expect("explore ends");
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
}
