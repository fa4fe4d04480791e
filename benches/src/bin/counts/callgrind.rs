//! Callgrind: runs a program with it, and reads what it counted.
//!
//! Its file is lines of `key=value`, which say where what follows was executed, and of costs,
//! `0xADDRESS instructions`. A line `calls=` is followed by one with the cost of what was called,
//! which stands at the callee's own lines too.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use benches::arguments::Failure;

/// The function while which callgrind counts, as a pattern of its demangled name.
pub(crate) const MEASURED: &str = "*counts::paths::measured*";

/// What makes the C library choose the same copies on each machine: those that every x86-64 has.
/// Without this a copy of 4 KiB is one instruction or two hundred.
const PLAIN: &str = "glibc.cpu.hwcaps=-AVX,-AVX2,-AVX_Usable,-AVX2_Usable,-AVX512F,-AVX512VL,-ERMS,\
                     -FSRM,-Fast_Unaligned_Copy";

/// Instructions executed at one address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Cost {
    /// The file of code that it was in: the program, or a shared library.
    pub(crate) object: PathBuf,
    /// The symbol, demangled; `???` where there is none.
    pub(crate) function: String,
    /// The address, as loaded.
    pub(crate) address: u64,
    /// How many.
    pub(crate) instructions: u64,
}

/// Runs `program` with `arguments` under callgrind, and gives what was executed inside
/// [`MEASURED`].
///
/// # Errors
/// Callgrind is not installed, the program failed, or the function never ran.
pub(crate) fn count(program: &Path, arguments: &[&str]) -> Result<Vec<Cost>, Failure> {
    let name = format!("counts-{}-{:?}.callgrind", std::process::id(), std::thread::current().id());
    let out = std::env::temp_dir().join(name.replace(['(', ')'], ""));
    let status = Command::new("valgrind")
        .args(["--tool=callgrind", "--quiet", "--collect-atstart=no", "--dump-instr=yes"])
        .args(["--dump-line=no", "--compress-strings=no", "--compress-pos=no"])
        .arg(format!("--toggle-collect={MEASURED}"))
        .arg(format!("--callgrind-out-file={}", out.display()))
        .arg(program)
        .args(arguments)
        .env("GLIBC_TUNABLES", PLAIN)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("valgrind did not start: {error}"))?;
    let text = fs::read_to_string(&out);
    let _ = fs::remove_file(&out);
    if !status.status.success() {
        let said = String::from_utf8_lossy(&status.stderr);
        let said = said.lines().last().unwrap_or_default();
        return Err(format!("under valgrind, {}: {said}", status.status).into());
    }
    let costs = read(&text?)?;
    if costs.is_empty() {
        return Err(format!("callgrind saw no function {MEASURED}").into());
    }
    Ok(costs)
}

/// Reads a file of callgrind's that was written without compression and with addresses.
///
/// # Errors
/// It is none.
pub(crate) fn read(text: &str) -> Result<Vec<Cost>, Failure> {
    let wanted = |key: &str, value: &str| {
        let has = text
            .lines()
            .any(|line| line.split_once(": ").is_some_and(|(k, v)| (k, v.trim()) == (key, value)));
        if has { Ok(()) } else { Err(format!("no callgrind file with `{key}: {value}`")) }
    };
    wanted("positions", "instr")?;
    wanted("events", "Ir")?;
    let (mut object, mut function) = (PathBuf::new(), String::new());
    let mut of_callee = false;
    let mut costs = Vec::new();
    for line in text.lines() {
        if let Some((key, value)) = line.split_once('=') {
            match key {
                "ob" => object = OsStr::new(value).into(),
                "fn" => value.clone_into(&mut function),
                "calls" => of_callee = true,
                _ => {}
            }
            continue;
        }
        let Some(at) = line.strip_prefix("0x") else { continue };
        if std::mem::take(&mut of_callee) {
            continue;
        }
        let parsed = at.split_once(' ').and_then(|(address, count)| {
            let address = u64::from_str_radix(address, 16).ok()?;
            Some((address, count.trim().parse().ok()?))
        });
        let Some((address, instructions)) = parsed else {
            return Err(format!("not a line of callgrind's: `{line}`").into());
        };
        let (object, function) = (object.clone(), function.clone());
        costs.push(Cost { object, function, address, instructions });
    }
    Ok(costs)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "\
# callgrind format
version: 1
positions: instr
events: Ir
ob=/bin/counts
fl=???
fn=benches::counts::paths::measured
0x1000 3
0x1004 2048
cob=/lib/libc.so.6
cfi=???
cfn=memcpy
calls=2048 0x9000
0x1008 409600
0x100c 1

ob=/lib/libc.so.6
fl=???
fn=memcpy
0x9000 409600

totals: 411652
";

    #[test]
    fn each_instruction_is_counted_where_it_was_executed_and_once() {
        let costs = read(FILE).expect("a callgrind file");
        let sum: u64 = costs.iter().map(|cost| cost.instructions).sum();
        assert_eq!(sum, 411_652, "what `totals` says");
        let last = costs.last().expect("costs");
        assert_eq!((last.function.as_str(), last.address), ("memcpy", 0x9000));
        assert_eq!(last.object, Path::new("/lib/libc.so.6"));
        assert!(costs[..3].iter().all(|cost| cost.object == Path::new("/bin/counts")));
    }

    #[test]
    fn other_files_are_errors() {
        assert!(read("").is_err());
        assert!(read(&FILE.replace("instr", "line")).is_err());
        assert!(read(&FILE.replace("0x1000 3", "0x1000 three")).is_err());
    }
}
