//! Draws what the programs `versus` have measured, from their JSON files: reads that reach the
//! store, in parts of the database's best cache of its own, with the same memory.
//!
//! ```sh
//! cargo run --release --example picture -- 25 redb.json sqlite.json > reads.svg
//! ```

use std::error::Error;
use std::fmt::Write as _;
use std::io::Write as _;
use std::process::ExitCode;

use serde_json::Value;

const WIDTH: f64 = 720.0;
const BAR: f64 = 22.0;
const LEFT: f64 = 190.0;
const FULL: f64 = 300.0;

struct Bar {
    name: String,
    is_own: bool,
    reads: f64,
}

/// The bars of one database with so much memory.
fn bars(json: &Value, percent: f64) -> Option<Vec<Bar>> {
    let lines = json.get("lines")?.as_array()?.iter();
    let ours = lines.filter(|line| line["percent"].as_f64() == Some(percent));
    let bar = |line: &Value| {
        let reads = line["measured"]["reads"].as_f64()?;
        Some(Bar {
            name: line["cache"].as_str()?.to_owned(),
            is_own: line["own"].as_bool()?,
            reads,
        })
    };
    ours.map(bar).collect()
}

fn draw(percent: f64, files: &[String]) -> Result<String, Box<dyn Error>> {
    let (mut body, mut y) = (String::new(), 46.0);
    for file in files {
        let json: Value = serde_json::from_slice(&std::fs::read(file)?)?;
        let name = json["database"].as_str().ok_or("a file of another kind")?;
        let bars = bars(&json, percent).ok_or("a file of another kind")?;
        let own = bars.iter().filter(|bar| bar.is_own).map(|bar| bar.reads);
        let best = own.min_by(f64::total_cmp).ok_or("nothing with so much memory")?;
        let _ = writeln!(body, r#"<text x="10" y="{}" font-weight="bold">{name}</text>"#, y + 16.0);
        for bar in &bars {
            let part = bar.reads / best;
            let colour = if bar.is_own { "#9aa5b1" } else { "#2f6fb3" };
            let (width, text) = ((part * FULL / 1.1).max(1.0), y + 16.0);
            let _ = writeln!(
                body,
                r#"<text x="{}" y="{text}" text-anchor="end">{}</text>
<rect x="{LEFT}" y="{y}" width="{width:.1}" height="{}" fill="{colour}"/>
<text x="{:.1}" y="{text}">{part:.2}: {:.3} reads an operation</text>"#,
                LEFT - 8.0,
                bar.name,
                BAR - 4.0,
                LEFT + width + 6.0,
                bar.reads,
            );
            y += BAR;
        }
        y += 14.0;
    }
    let title = format!("Reads that reach the store, with {percent} % of the data in memory");
    Ok(format!(
        r#"<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{y}"
 font-family="sans-serif" font-size="13">
<rect width="100%" height="100%" fill="white"/>
<text x="10" y="26" font-size="16">{title}</text>
{body}</svg>"#
    ))
}

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let percent = arguments.next().and_then(|percent| percent.parse().ok());
    let files: Vec<String> = arguments.collect();
    let drawn = match percent {
        Some(percent) if !files.is_empty() => draw(percent, &files),
        _ => Err("usage: picture PERCENT FILE.json...".into()),
    };
    match drawn {
        Ok(picture) => {
            let _ = writeln!(std::io::stdout(), "{picture}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "{error}");
            ExitCode::from(2)
        }
    }
}
