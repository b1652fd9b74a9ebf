//! `simulate [--write]`: what each strategy of load balancing does to latency when one of ten endpoints is ten times slower.
//! Virtual time and a fixed seed: the same numbers on every run. Prints a table; with `--write` puts it and a plot into `docs`.
#![expect(clippy::print_stdout, reason = "a program for people at a terminal")]

mod plot;
mod table;
mod world;

use std::{fs, path::Path};

use anyhow::{Context, Result};
use tidegate_config::config::{Balancing, Key, StickyCookie};

use world::Run;

const DOCUMENT: &str = "docs/load-balancing.md";
const PLOT: &str = "docs/load-balancing.svg";

fn main() -> Result<()> {
    let rows = rows()?;
    let table = table::markdown(&rows);
    println!("{table}");
    if std::env::args().nth(1).as_deref() == Some("--write") {
        let root = root()?;
        let document = root.join(DOCUMENT);
        let text = fs::read_to_string(&document).with_context(|| format!("reading {DOCUMENT}"))?;
        fs::write(&document, table::put_into(&text, &table)?)?;
        fs::write(root.join(PLOT), plot::svg(&rows)?)?;
    }
    Ok(())
}

/// What one line of the table and of the plot shows.
struct Row {
    name: &'static str,
    /// What 50 %, 99 % and 99.9 % of the requests stayed within, in milliseconds.
    latencies: [f64; 3],
    /// The share of the requests that the slow endpoint got, if there was one.
    to_slow: Option<f64>,
}

impl Row {
    fn new(name: &'static str, run: &Run, slow: bool) -> Result<Self> {
        let latencies = [run.within(0.5)?, run.within(0.99)?, run.within(0.999)?];
        Ok(Self { name, latencies, to_slow: slow.then(|| run.to_slow()) })
    }
}

/// All strategies beside a slow endpoint, after one without it.
fn rows() -> Result<Vec<Row>> {
    let well = world::run(&Balancing::RoundRobin, false)?;
    let mut rows = vec![Row::new("round_robin, all ten well", &well, false)?];
    for (name, balancing) in strategies() {
        rows.push(Row::new(name, &world::run(&balancing, true)?, true)?);
    }
    Ok(rows)
}

fn strategies() -> [(&'static str, Balancing); 8] {
    let cookie = StickyCookie { name: "tg".into(), secret: None, max_age: None };
    [
        ("round_robin", Balancing::RoundRobin),
        ("random", Balancing::Random),
        ("ip_hash", Balancing::IpHash),
        ("sticky_cookie", Balancing::StickyCookie(cookie)),
        ("consistent_hash", Balancing::ConsistentHash(Key::ClientIp)),
        ("p2c", Balancing::PowerOfTwo),
        ("least_connections", Balancing::LeastConnections),
        ("least_time", Balancing::LeastTime),
    ]
}

/// The folder of the workspace: the one above this package's.
fn root() -> Result<&'static Path> {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("bench lies inside the workspace")
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::{DOCUMENT, PLOT, plot, root, rows, table};

    #[test]
    fn the_document_shows_what_the_simulation_says() -> anyhow::Result<()> {
        let rows = rows()?;
        let text = fs::read_to_string(root()?.join(DOCUMENT))?;
        let again = "`cargo run --package bench --example simulate -- --write` writes them anew";
        assert_eq!(table::put_into(&text, &table::markdown(&rows))?, text, "{again}");
        assert_eq!(plot::svg(&rows)?, fs::read_to_string(root()?.join(PLOT))?, "{again}");
        Ok(())
    }
}
