//! The rows of one trace, codec and cost of a miss.

use std::fmt::{self, Write};
use std::time::Duration;

use super::share::Named;
use super::tally::{Kind, Tally};
use crate::spec::Codec;
use crate::table::number;

/// The first line of a file of rows.
pub(crate) const CSV: &str = "trace,codec,capacity_bytes,miss_us,share,requests,hits,hit_ratio,\
hot_hit_ratio,hit_ns,hot_ns,decoded_ns,promoting_ns,interrupted,effective_us,to_best_fixed";

pub(crate) struct Table {
    trace: String,
    codec: Codec,
    capacity: u64,
    miss: Duration,
    rows: Vec<Row>,
}

struct Row {
    share: Named,
    tally: Tally,
    /// Microseconds a request.
    effective: f64,
    /// By that of the best fixed share; none where there is no fixed share.
    to_best: Option<f64>,
}

impl Table {
    pub(crate) fn new(
        trace: &str,
        codec: Codec,
        capacity: u64,
        miss: Duration,
        rows: Vec<(Named, Tally)>,
    ) -> Self {
        let fixed = rows.iter().filter(|(share, _)| !share.told);
        let best = fixed.map(|(_, tally)| tally.effective(miss)).min_by(f64::total_cmp);
        let row = |(share, tally): (Named, Tally)| {
            let effective = tally.effective(miss);
            Row { share, tally, effective, to_best: best.map(|best| effective / best) }
        };
        let rows = rows.into_iter().map(row).collect();
        Self { trace: trace.into(), codec, capacity, miss, rows }
    }

    fn miss_us(&self) -> f64 {
        self.miss.as_secs_f64() * 1e6
    }

    /// The rows as lines below [`CSV`].
    pub(crate) fn csv(&self) -> String {
        let mut csv = String::new();
        for Row { share, tally, effective, to_best } in &self.rows {
            let [hits, hot] = tally.ratios();
            let kinds = [Kind::Hot, Kind::Decoded, Kind::Promoting];
            let times = [tally.hit()].into_iter().chain(kinds.map(|kind| tally.hit_of(kind)));
            let field = |figure: Option<f64>, digits: usize| {
                figure.map_or_else(String::new, |figure| format!("{figure:.digits$}"))
            };
            let times: Vec<String> = times.map(|time| field(time, 1)).collect();
            let line = [
                self.trace.clone(),
                self.codec.to_string(),
                self.capacity.to_string(),
                self.miss_us().to_string(),
                share.to_string(),
                tally.requests.to_string(),
                tally.hits.to_string(),
                format!("{hits:.6},{hot:.6}"),
                times.join(","),
                tally.interrupted.to_string(),
                format!("{effective:.4}"),
                field(*to_best, 4),
            ];
            csv += &line.join(",");
            csv.push('\n');
        }
        csv
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mib = self.capacity as f64 / f64::from(1 << 20);
        let (trace, codec, miss) = (&self.trace, self.codec, self.miss_us());
        writeln!(f, "{trace}, {codec}, {mib:.2} MiB, a miss costs {miss} us")?;
        let mut lines = String::new();
        for Row { share, tally, effective, to_best } in &self.rows {
            let [hits, hot] = tally.ratios().map(|ratio| format!("{:.2}", 100.0 * ratio));
            let ns = |kind: Kind| number(tally.hit_of(kind), 0);
            writeln!(
                lines,
                "{share:<6} {hits:>7} {hot:>7} {:>8} {:>8} {:>8} {:>9} {:>6} {effective:>9.3} \
                 {:>7}",
                number(tally.hit(), 0),
                ns(Kind::Hot),
                ns(Kind::Decoded),
                ns(Kind::Promoting),
                tally.interrupted,
                number(*to_best, 3),
            )?;
        }
        writeln!(
            f,
            "{:<6} {:>7} {:>7} {:>8} {:>8} {:>8} {:>9} {:>6} {:>9} {:>7}",
            "share",
            "hit %",
            "hot %",
            "hit ns",
            "hot ns",
            "decoded",
            "promoting",
            ">1 ms",
            "us/req",
            "to best"
        )?;
        f.write_str(&lines)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally(hits: u64, nanoseconds: u64) -> Tally {
        let mut tally = Tally { requests: 10, hits, ..Tally::default() };
        (0..hits).for_each(|_| assert!(tally.time(nanoseconds)));
        tally
    }

    #[test]
    fn rows_are_held_against_the_best_fixed_share() {
        let fixed = |name: &str| name.parse::<Named>().unwrap();
        let told = Named { told: true, ..fixed("1/3") };
        // 10 us of hits and 100 us of misses; 2 us and 200 us; the one that adapts is better than
        // both.
        let rows = vec![
            (fixed("none"), tally(9, 1000)),
            (fixed("1/4"), tally(8, 250)),
            (told, tally(9, 500)),
        ];
        let miss = Duration::from_micros(100);
        let table = Table::new("t", Codec::Lz4, 1 << 20, miss, rows);
        let to_best: Vec<f64> = table.rows.iter().filter_map(|row| row.to_best).collect();
        let wanted = [1.0, 202.0 / 109.0, 104.5 / 109.0];
        assert!(
            to_best.iter().zip(wanted).all(|(got, want)| (got - want).abs() < 1e-9),
            "{to_best:?}"
        );
        let csv = table.csv();
        assert_eq!(
            csv.lines().next(),
            Some("t,lz4,1048576,100,none,10,9,0.900000,0.000000,1000.0,,,,0,10.9000,1.0000")
        );
        let fields = |line: &str| line.split(',').count();
        assert!(csv.lines().all(|line| fields(line) == fields(CSV)), "{csv}");
        let lines: Vec<String> = table.to_string().lines().map(str::to_owned).collect();
        assert_eq!(lines.len(), 5);
        assert!(lines[1..].iter().all(|line| line.len() == lines[1].len()), "{table}");
    }
}
