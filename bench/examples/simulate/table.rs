//! The table of the document.

use anyhow::{Context, Result};

use crate::Row;

const BEGIN: &str = "<!-- simulate: begin -->\n";
const END: &str = "<!-- simulate: end -->\n";

/// One line for each row.
pub(crate) fn markdown(rows: &[Row]) -> String {
    let mut lines = vec![
        "| strategy | p50 | p99 | p99.9 | to the slow one |".to_owned(),
        "| --- | ---: | ---: | ---: | ---: |".to_owned(),
    ];
    lines.extend(rows.iter().map(line));
    lines.join("\n") + "\n"
}

fn line(row: &Row) -> String {
    let [p50, p99, p999] = row.latencies.map(readable);
    let to_slow = row.to_slow.map_or_else(|| "-".to_owned(), |share| format!("{:.1} %", share * 100.0));
    format!("| {} | {p50} | {p99} | {p999} | {to_slow} |", row.name)
}

/// In the unit that people would say.
pub(crate) fn readable(millis: f64) -> String {
    if millis < 1000.0 { format!("{millis:.0} ms") } else { format!("{:.1} s", millis / 1000.0) }
}

/// `text` with `table` between its marks.
pub(crate) fn put_into(text: &str, table: &str) -> Result<String> {
    let (before, rest) = text.split_once(BEGIN).context("the document has a mark where the table begins")?;
    let (_, behind) = rest.split_once(END).context("the document has a mark where the table ends")?;
    Ok(format!("{before}{BEGIN}{table}{END}{behind}"))
}
