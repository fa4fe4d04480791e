//! The table.

use std::io::{self, Write};
use std::time::Duration;

use crate::measure::{Bare, Measured, Plan, THREADS, Untrained};
use crate::options::{CodecName, Options};
use crate::pages::Pages;

fn mib(bytes: usize) -> String {
    mib_of(bytes as f64)
}

fn mib_of(bytes: f64) -> String {
    format!("{:.1} MiB", bytes / (1 << 20) as f64)
}

fn percent(part: f64, whole: f64) -> String {
    format!("{:.1} %", 100.0 * part / whole.max(1.0))
}

fn ns(time: Duration) -> String {
    format!("{} ns", time.as_nanos())
}

fn resident(measured: &Measured) -> String {
    measured.resident.map_or_else(|| "unknown here".to_owned(), mib)
}

fn row(to: &mut dyn Write, name: &str, ours: &str, plain: &str) -> io::Result<()> {
    writeln!(to, "  {name:<34} {ours:>16} {plain:>16}")
}

/// A codec, and what it does with the pages, if there is a dictionary for it.
pub(crate) type Row = (CodecName, Result<Bare, Untrained>);

pub(crate) fn print(
    to: &mut dyn Write,
    options: &Options,
    pages: &Pages,
    plan: &Plan,
    codecs: &[Row],
    ours: &Measured,
    plain: &Measured,
) -> io::Result<()> {
    let (count, bytes) = (pages.count(), mib(pages.bytes()));
    writeln!(
        to,
        "{}: {count} pages, {bytes}, {} bytes each on average",
        pages.name(),
        pages.mean()
    )?;
    for left_out in pages.left_out() {
        writeln!(to, "left out: {left_out}")?;
    }
    writeln!(to)?;
    writeln!(to, "codec alone, each page by itself, one thread")?;
    writeln!(to, "  {:<14} {:>7} {:>14} {:>14}", "", "ratio", "compress", "decode")?;
    for (name, bare) in codecs {
        match bare {
            Ok(Bare { ratio, encode, decode }) => {
                let (encode, decode) = (ns(*encode), ns(*decode));
                writeln!(to, "  {name:<14} {ratio:>6.2}x {encode:>14} {decode:>14}")?;
            }
            Err(reason) => writeln!(to, "  {name:<14} left out: {reason}")?,
        }
    }
    writeln!(to)?;
    writeln!(
        to,
        "a cache of {} under {} accesses from {THREADS} threads to {} pages ({}), Zipf {}",
        mib(plan.budget),
        plan.ops,
        plan.keys,
        mib_of(plan.keys as f64 * pages.mean() as f64),
        options.skew,
    )?;
    row(to, "", &format!("{}", options.codec), "uncompressed")?;
    let (a, b) = (&ours.stats, &plain.stats);
    let mut both =
        |name: &str, of: &dyn Fn(&Measured) -> String| row(to, name, &of(ours), &of(plain));
    both("pages held", &|m| m.stats.entries.to_string())?;
    both("bytes of pages held", &|m| mib(m.stats.bytes.uncompressed))?;
    both("memory by its own account", &|m| mib(m.stats.bytes.held))?;
    both("memory by the system's (growth)", &resident)?;
    both("hit ratio", &|m| percent(m.hits as f64, (m.hits + m.misses) as f64))?;
    both("a hit", &|m| ns(m.hit))?;
    both("an insert, evictions included", &|m| {
        if m.misses == 0 { "none".to_owned() } else { ns(m.insert) }
    })?;
    both("same-filled", &|m| percent(m.stats.same_filled as f64, m.stats.entries as f64))?;
    both("incompressible, stored as they are", &|m| {
        percent(m.stats.raw as f64, m.stats.entries as f64)
    })?;
    both("hits compared with the file", &|m| format!("{}, all equal", m.verified))?;
    writeln!(to)?;
    if let Some((_, Ok(bare))) = codecs.iter().find(|(name, _)| *name == options.codec) {
        let over = |all: Duration, part: Duration| all.as_nanos() as i128 - part.as_nanos() as i128;
        write!(to, "over the bare codec: {:+} ns a hit", over(ours.hit, bare.decode))?;
        if ours.misses > 0 {
            write!(to, ", {:+} ns an insert", over(ours.insert, bare.encode))?;
        }
        writeln!(to, " (clock, cold memory and the other thread included)")?;
    }
    let times = a.entries as f64 / b.entries.max(1) as f64;
    let missed = |m: &Measured| m.misses as f64 / (m.hits + m.misses).max(1) as f64;
    writeln!(
        to,
        "{times:.2} times the pages in the same memory; misses: {:.1} % instead of {:.1} %.",
        100.0 * missed(ours),
        100.0 * missed(plain)
    )?;
    let saved = missed(plain) - missed(ours);
    let price = |m: &Measured| {
        let all = (m.hits + m.misses).max(1) as f64;
        (m.hit.as_nanos() as f64 * m.hits as f64 + m.insert.as_nanos() as f64 * m.misses as f64)
            / all
    };
    if saved > 0.0 {
        let even = (price(ours) - price(plain)) / saved / 1000.0;
        writeln!(
            to,
            "It pays where a miss costs more than {:.1} us beside the insert.",
            even.max(0.0)
        )?;
    }
    Ok(())
}
