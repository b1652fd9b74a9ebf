//! The plot of the document: for each strategy a line from p50 over p99 to p99.9, on a logarithmic axis.

use std::fmt::{Result, Write};

use crate::{Row, table::readable};

const WIDTH: f64 = 860.0;
/// Where the axis begins and ends.
const LEFT: f64 = 200.0;
const RIGHT: f64 = 780.0;
const TOP: f64 = 84.0;
const LINE: f64 = 34.0;
/// Milliseconds at the beginning of the axis, and how many powers of ten it spans.
const FIRST: f64 = 10.0;
const DECADES: u8 = 5;

/// Colours for a light and a dark page: a background of its own, so that both can be read anywhere.
const STYLE: &str = "<style>
  .page { fill: #ffffff } .grid { stroke: #d8dee4 } .text { fill: #1f2328 } .faint { fill: #59636e }
  .line { stroke: #8c959f } .p50 { fill: #1a7f37 } .p99 { fill: #bc4c00 } .p999 { fill: #8250df }
  text { font: 13px system-ui, sans-serif }
  @media (prefers-color-scheme: dark) {
    .page { fill: #0d1117 } .grid { stroke: #30363d } .text { fill: #e6edf3 } .faint { fill: #9198a1 }
    .line { stroke: #6e7681 } .p50 { fill: #3fb950 } .p99 { fill: #f0883e } .p999 { fill: #bc8cff }
  }
</style>
";

/// The whole picture.
pub(crate) fn svg(rows: &[Row]) -> std::result::Result<String, std::fmt::Error> {
    let mut out = String::new();
    let lines = u16::try_from(rows.len()).unwrap_or(u16::MAX);
    let (bottom, height) = (TOP + LINE * f64::from(lines), TOP + LINE * f64::from(lines) + 40.0);
    writeln!(out, r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img">"#)?;
    writeln!(out, "<title>Latency by strategy when one of ten endpoints is ten times slower</title>")?;
    out.push_str(STYLE);
    writeln!(out, r#"<rect class="page" width="{WIDTH}" height="{height}" rx="8"/>"#)?;
    heading(&mut out)?;
    axis(&mut out, bottom)?;
    for (row, number) in rows.iter().zip(0_u16..) {
        draw(&mut out, row, TOP + LINE * (f64::from(number) + 0.5))?;
    }
    out.push_str("</svg>\n");
    Ok(out)
}

fn heading(out: &mut String) -> Result {
    let title = "Latency when one of ten endpoints is ten times slower";
    writeln!(out, r#"<text class="text" x="16" y="28" font-weight="600">{title}</text>"#)?;
    for (class, label, x) in [("p50", "p50", 200), ("p99", "p99", 264), ("p999", "p99.9", 328)] {
        writeln!(out, r#"<circle class="{class}" cx="{x}" cy="52" r="6"/>"#)?;
        writeln!(out, r#"<text class="faint" x="{}" y="57">{label}</text>"#, x + 12)?;
    }
    writeln!(out, r#"<text class="faint" x="{RIGHT}" y="57" text-anchor="end">less is better; logarithmic</text>"#)
}

fn axis(out: &mut String, bottom: f64) -> Result {
    for decade in 0..=DECADES {
        let millis = FIRST * 10_f64.powi(decade.into());
        let (x, label) =
            (place(millis), if millis < 1000.0 { readable(millis) } else { format!("{} s", millis / 1e3) });
        writeln!(out, r#"<line class="grid" x1="{x:.1}" y1="{TOP}" x2="{x:.1}" y2="{bottom}"/>"#)?;
        writeln!(out, r#"<text class="faint" x="{x:.1}" y="{}" text-anchor="middle">{label}</text>"#, bottom + 22.0)?;
    }
    Ok(())
}

fn draw(out: &mut String, row: &Row, y: f64) -> Result {
    let [p50, p99, p999] = row.latencies.map(place);
    let base = y + 4.0;
    writeln!(out, r#"<text class="text" x="16" y="{base}">{}</text>"#, row.name)?;
    writeln!(out, r#"<line class="line" x1="{p50:.1}" y1="{y}" x2="{p999:.1}" y2="{y}" stroke-width="3"/>"#)?;
    for (class, x) in [("p50", p50), ("p999", p999), ("p99", p99)] {
        writeln!(out, r#"<circle class="{class}" cx="{x:.1}" cy="{y}" r="6"/>"#)?;
    }
    let [_, p99, _] = row.latencies.map(readable);
    writeln!(out, r#"<text class="p99" x="{:.1}" y="{base}">{p99}</text>"#, p999 + 14.0)
}

/// Where so many milliseconds are on the axis.
fn place(millis: f64) -> f64 {
    LEFT + (RIGHT - LEFT) * (millis / FIRST).log10() / f64::from(DECADES)
}
