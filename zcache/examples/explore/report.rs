//! The table.

use std::io::{self, Write};
use std::time::Duration;

use crate::measure::{Bare, Measured, Plan, THREADS};
use crate::options::{CodecName, Failure, Options};
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
    measured.resident.map_or_else(|| "unknown".to_owned(), mib)
}

/// A codec, and what it does with the pages, or why that is not known.
type Row = (CodecName, Result<Bare, Failure>);
/// A codec, and what a cache with it did. The last one is uncompressed.
type Column = (CodecName, Measured);

pub(crate) fn print(
    to: &mut dyn Write,
    options: &Options,
    pages: &Pages,
    plan: &Plan,
    codecs: &[Row],
    caches: &[Column],
) -> io::Result<()> {
    let (count, bytes, mean) = (pages.count(), mib(pages.bytes()), pages.mean());
    writeln!(to, "{}: {count} pages, {bytes}, {mean} bytes each on average", pages.name())?;
    for left_out in pages.left_out() {
        writeln!(to, "left out: {left_out}")?;
    }
    writeln!(to)?;
    print_codecs(to, codecs)?;
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
    print_caches(to, plan, codecs, caches)
}

fn print_codecs(to: &mut dyn Write, codecs: &[Row]) -> io::Result<()> {
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
    Ok(())
}

fn print_caches(
    to: &mut dyn Write,
    plan: &Plan,
    codecs: &[Row],
    caches: &[Column],
) -> io::Result<()> {
    let Some(((_, plain), ours)) = caches.split_last() else { return Ok(()) };
    write!(to, "  {:<34}", "")?;
    ours.iter().try_for_each(|(name, _)| write!(to, " {name:>12}"))?;
    writeln!(to, " uncompressed")?;
    let mut row = |name: &str, of: &dyn Fn(&Column) -> String| {
        write!(to, "  {name:<34}")?;
        caches.iter().try_for_each(|column| write!(to, " {:>12}", of(column)))?;
        writeln!(to)
    };
    row("pages held", &|(_, m)| m.stats.entries.to_string())?;
    row("times those without compression", &|(_, m)| {
        format!("{:.2}x", m.stats.entries as f64 / plain.stats.entries.max(1) as f64)
    })?;
    row("bytes of pages held", &|(_, m)| mib(m.stats.bytes.uncompressed))?;
    row("memory by its own account", &|(_, m)| mib(m.stats.bytes.held))?;
    row("memory by the system's (growth)", &|(_, m)| resident(m))?;
    row("hit ratio", &|(_, m)| percent(m.hits as f64, (m.hits + m.misses) as f64))?;
    row("a hit", &|(_, m)| ns(m.hit))?;
    row("an insert, evictions included", &|(_, m)| match m.misses {
        0 => "none".to_owned(),
        _ => ns(m.insert),
    })?;
    // The clock, cold memory and the other thread are in it.
    let beyond = |(name, m): &Column| {
        let of = codecs.iter().find(|(codec, _)| codec == name);
        let bare = of.and_then(|(_, bare)| bare.as_ref().ok())?;
        Some(m.hit.as_nanos() as i128 - bare.decode.as_nanos() as i128)
    };
    row("a hit beyond the bare codec", &|column| {
        beyond(column).map_or_else(|| "-".to_owned(), |time| format!("{time:+} ns"))
    })?;
    row("same-filled", &|(_, m)| percent(m.stats.same_filled as f64, m.stats.entries as f64))?;
    row("incompressible, stored as they are", &|(_, m)| {
        percent(m.stats.raw as f64, m.stats.entries as f64)
    })?;
    row("compared with the file, all equal", &|(_, m)| m.verified.to_string())?;
    let miss = format!("{:?}", plan.miss).replace('µ', "u");
    row(&format!("a request where a miss takes {miss}"), &|(_, m)| {
        format!("{:.1} us", m.request(plan.miss))
    })?;
    row("pays from", &|(name, m)| match name {
        CodecName::None => "-".to_owned(),
        _ => even(m, plain).map_or_else(|| "never".to_owned(), |even| format!("{even:.1} us")),
    })?;
    writeln!(to)?;
    writeln!(
        to,
        "pays from: where a miss takes longer, a request takes less than without compression."
    )?;
    if let Some((_, found)) = ours.iter().find(|(name, _)| *name == CodecName::Auto) {
        let (codec, changes) = (&found.stats.codec, found.stats.codec_changes);
        writeln!(to, "auto: ended with {codec}, changes of the codec: {changes}")?;
    }
    Ok(())
}

/// Microseconds of a miss from which on a cache takes less time than an uncompressed one.
fn even(ours: &Measured, plain: &Measured) -> Option<f64> {
    let saved = plain.missed() - ours.missed();
    let more = ours.request(Duration::ZERO) - plain.request(Duration::ZERO);
    (saved > 0.0).then(|| (more / saved).max(0.0))
}
