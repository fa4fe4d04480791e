//! Leave one out: are the rules fitted to the traces?
//!
//! Settings are those that are shipped, each with one rule left out or one constant halved or
//! doubled. They are played with exact ghosts (`tests::naive`), which differ from the real ones by
//! less than the settings do from each other.

use ::tests::naive::{Naive, Rules, S3Fifo};
use benches::arguments::Failure;
use benches::parallel;

use crate::contestants::{self, RIVAL};
use crate::options::Options;
use crate::played::Played;
use crate::run::cores;
use crate::trace;

/// A trace counts by its mean difference to the rival, within these points: or one trace on which
/// all rules win by twenty would choose alone.
const WITHIN: (f64, f64) = (-4.0, 2.0);

struct Setting {
    name: &'static str,
    rules: Rules,
}

fn settings() -> Vec<Setting> {
    let ours = Rules::default();
    let (share, least, most) = ours.share;
    let all = [
        ("as shipped", ours),
        ("main does not fill first", Rules { fill: false, ..ours }),
        ("no door", Rules { door: false, ..ours }),
        ("no youth", Rules { young: 0.0, ..ours }),
        ("two hits", Rules { proven: 2, ..ours }),
        ("a fixed share", Rules { haste: 0.0, ..ours }),
        ("no ageing", Rules { ageing: 0, ..ours }),
        ("youth 1/8", Rules { young: 0.125, ..ours }),
        ("youth 1/2", Rules { young: 0.5, ..ours }),
        ("share from 2 %", Rules { share: (share / 2.0, least, most), ..ours }),
        ("share from 8 %", Rules { share: (share * 2.0, least, most), ..ours }),
        ("share above 0.5 %", Rules { share: (share, least / 2.0, most), ..ours }),
        ("share above 2 %", Rules { share: (share, least * 2.0, most), ..ours }),
        ("share below 15 %", Rules { share: (share, least, most / 2.0), ..ours }),
        ("share below 60 %", Rules { share: (share, least, most * 2.0), ..ours }),
        ("share half as fast", Rules { haste: ours.haste / 2.0, ..ours }),
        ("share twice as fast", Rules { haste: ours.haste * 2.0, ..ours }),
        ("returns weigh 0.7", Rules { weight: 0.7, ..ours }),
        ("returns weigh 1", Rules { weight: 1.0, ..ours }),
        ("young ghosts 1/40", Rules { fresh: ours.fresh / 2.0, ..ours }),
        ("young ghosts 1/10", Rules { fresh: ours.fresh * 2.0, ..ours }),
        ("ageing at 24", Rules { ageing: ours.ageing / 2, ..ours }),
        ("ageing at 96", Rules { ageing: ours.ageing * 2, ..ours }),
    ];
    all.into_iter().map(|(name, rules)| Setting { name, rules }).collect()
}

/// What each setting comes to on one trace, in points above the rival, over all sizes.
fn points(options: &Options, trace: &Played, settings: &[Setting], rival: &[f64]) -> Vec<f64> {
    let of = |setting: &Setting| {
        let sizes = options.percents.iter().zip(rival);
        let more = sizes.map(|(percent, rival)| {
            let mut policy = S3Fifo::adaptive(trace.entries(*percent), setting.rules);
            let hits = trace.pages.iter().filter(|page| policy.request(**page)).count();
            trace.percent(hits) - rival
        });
        more.sum::<f64>() / options.percents.len() as f64
    };
    settings.iter().map(of).collect()
}

fn mean(values: impl ExactSizeIterator<Item = f64>) -> f64 {
    let count = values.len().max(1) as f64;
    values.sum::<f64>() / count
}

/// The setting that is the best on all traces but `left_out`.
fn best(table: &[Vec<f64>], left_out: Option<usize>) -> usize {
    let score = |setting: usize| {
        let others = table.iter().enumerate().filter(|(trace, _)| Some(*trace) != left_out);
        others.map(|(_, row)| row[setting].clamp(WITHIN.0, WITHIN.1)).sum::<f64>()
    };
    let all = 0..table.first().map_or(0, Vec::len);
    all.max_by(|one, other| score(*one).total_cmp(&score(*other))).unwrap_or(0)
}

pub(crate) fn run(options: &Options) -> Result<(), Failure> {
    let rival = contestants::named(RIVAL)?;
    let traces = trace::read(&options.traces, options.requests)?;
    let settings = settings();
    let table = parallel::each(cores(), &traces, |trace| {
        let ratio = |percent: &f64| trace.percent((rival.play)(trace, trace.entries(*percent)));
        let rival: Vec<f64> = options.percents.iter().map(ratio).collect();
        Ok(points(options, trace, &settings, &rival))
    })?;
    println!("points above {RIVAL}, mean over all sizes\n");
    println!("{:<20} {:>10} {:>10}   chosen on the others", "trace", "as shipped", "left out");
    let mut unseen = Vec::new();
    for (number, (trace, row)) in traces.iter().zip(&table).enumerate() {
        let chosen = best(&table, Some(number));
        unseen.push(row[chosen]);
        let name = settings[chosen].name;
        println!("{:<20} {:>+10.2} {:>+10.2}   {name}", trace.name, row[0], row[chosen]);
    }
    let fitted = best(&table, None);
    let of = |setting: usize| mean(table.iter().map(|row| row[setting]));
    println!(
        "\nmean: as shipped {:+.2}; the best on all traces {:+.2} ({}); chosen on the others \
         {:+.2}\n",
        of(0),
        of(fitted),
        settings[fitted].name,
        mean(unseen.into_iter())
    );
    println!("{:<26} {:>8} {:>8} {:>8}   beside as shipped", "setting", "mean", "worst", "best");
    for (number, setting) in settings.iter().enumerate().skip(1) {
        let more = || table.iter().map(|row| row[number] - row[0]);
        let (worst, best) =
            (more().fold(f64::INFINITY, f64::min), more().fold(f64::NEG_INFINITY, f64::max));
        println!("{:<26} {:>+8.2} {worst:>+8.2} {best:>+8.2}", setting.name, mean(more()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_choice_does_not_see_the_trace_that_is_left_out() {
        let table = [vec![0.0, 2.0], vec![1.0, 0.0], vec![1.5, 0.0]];
        assert_eq!(best(&table, None), 0);
        assert_eq!(best(&table, Some(0)), 0);
        assert_eq!(best(&table[..2], Some(1)), 1);
        // Twenty points on one trace count no more than two.
        assert_eq!(best(&[vec![0.0, 20.0], vec![1.5, 0.0], vec![1.0, 0.0]], None), 0);
    }

    #[test]
    fn the_first_setting_is_what_is_shipped_and_no_other_is() {
        let settings = settings();
        let same = |setting: &&Setting| setting.rules == Rules::default();
        assert_eq!(settings.iter().filter(same).count(), 1);
        assert_eq!(settings[0].rules, Rules::default());
    }
}
