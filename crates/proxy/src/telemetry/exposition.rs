//! The metrics as text: one table entry per metric says its name, what it means and where it comes from. `docs/metrics.md` is
//! generated from the same table.

use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::cells::{BOUNDS, Cell, HistogramSum};
use super::completed::End;
use super::metrics::{LetGo, ListenerCells, PoolCells, Refused, RefusedStream, Scrape, SeriesCells, WorkerCells};
use super::shaped::{FaultCells, MirrorCells};

/// One metric.
#[derive(Debug)]
pub struct Description {
    /// Its name.
    pub name: &'static str,
    /// What kind of number it is.
    pub kind: Kind,
    /// The labels of its series. Their values come from the configuration or from the program, never from a client.
    pub labels: &'static [&'static str],
    /// What it counts, in one sentence.
    pub help: &'static str,
    pub(super) samples: fn(&Scrape<'_>, &mut Samples<'_>),
}

/// What kind of number a metric is, in the words of Prometheus.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Buckets, a sum and a count.
    Histogram,
}

impl Kind {
    /// The word of the text format.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// Every metric, in the order of the text.
pub fn descriptions() -> impl Iterator<Item = &'static Description> {
    COUNTED.iter().chain(super::services::READ).chain(super::policies::READ)
}

/// What is counted while it happens.
const COUNTED: &[Description] = &[
    Description {
        name: "tidegate_build_info",
        kind: Kind::Gauge,
        labels: &["version"],
        help: "Always 1; the label says which Tidegate this is.",
        samples: |_, out| out.value(&[env!("CARGO_PKG_VERSION")], 1),
    },
    Description {
        name: "tidegate_requests_total",
        kind: Kind::Counter,
        labels: &["route", "service", "code"],
        help: "Finished requests by the class of their status, such as `2xx`; `none` is a client that left before there was a \
               status. Route and service are empty where there was none.",
        samples: |scrape, out| {
            for ((route, service), cells) in scrape.registry.series.iter() {
                for (class, index) in ["none", "1xx", "2xx", "3xx", "4xx", "5xx"].into_iter().zip(0..) {
                    let sum = sum(cells.clone(), |cells: &SeriesCells| cells.replies.get(index));
                    out.value_unless_zero(&[route, service, class], sum);
                }
            }
        },
    },
    Description {
        name: "tidegate_request_duration_seconds",
        kind: Kind::Histogram,
        labels: &["route", "service"],
        help: "From the first byte of a request's head to the last byte of its reply.",
        samples: |scrape, out| {
            for ((route, service), cells) in scrape.registry.series.iter() {
                let mut total = HistogramSum::default();
                cells.for_each(|cells: &SeriesCells| cells.duration.add_to(&mut total));
                out.histogram(&[route, service], &total);
            }
        },
    },
    Description {
        name: "tidegate_upstream_duration_seconds",
        kind: Kind::Histogram,
        labels: &["route", "service"],
        help: "From the first attempt at an upstream to the head of the reply that was used.",
        samples: |scrape, out| {
            for ((route, service), cells) in
                scrape.registry.series.iter().filter(|((_, service), _)| !service.is_empty())
            {
                let mut total = HistogramSum::default();
                cells.for_each(|cells: &SeriesCells| cells.upstream.add_to(&mut total));
                out.histogram(&[route, service], &total);
            }
        },
    },
    Description {
        name: "tidegate_upstream_attempts_total",
        kind: Kind::Counter,
        labels: &["route", "service"],
        help: "How often an upstream was asked; more than the requests when attempts were repeated.",
        samples: |scrape, out| {
            for ((route, service), cells) in
                scrape.registry.series.iter().filter(|((_, service), _)| !service.is_empty())
            {
                out.value(&[route, service], sum(cells, |cells: &SeriesCells| Some(&cells.attempts)));
            }
        },
    },
    Description {
        name: "tidegate_request_body_bytes_total",
        kind: Kind::Counter,
        labels: &["route", "service"],
        help: "Bytes of request bodies, without framing.",
        samples: |scrape, out| {
            for ((route, service), cells) in scrape.registry.series.iter() {
                out.value(&[route, service], sum(cells, |cells: &SeriesCells| Some(&cells.received)));
            }
        },
    },
    Description {
        name: "tidegate_response_body_bytes_total",
        kind: Kind::Counter,
        labels: &["route", "service"],
        help: "Bytes of reply bodies, without framing.",
        samples: |scrape, out| {
            for ((route, service), cells) in scrape.registry.series.iter() {
                out.value(&[route, service], sum(cells, |cells: &SeriesCells| Some(&cells.sent)));
            }
        },
    },
    Description {
        name: "tidegate_requests_active",
        kind: Kind::Gauge,
        labels: &[],
        help: "Requests under way.",
        samples: |scrape, out| out.value(&[], worker_sum(scrape, |cells| Some(&cells.requests))),
    },
    Description {
        name: "tidegate_requests_ended_total",
        kind: Kind::Counter,
        labels: &["end"],
        help: "Finished requests by how they ended: `complete`, `client_gone`, `upstream_aborted`, `timeout` (after the reply had \
               begun), `refused` (by the gateway), `upgraded` or `shutdown` (by the end of the drain).",
        samples: |scrape, out| {
            for (name, index) in End::NAMES.into_iter().zip(0..) {
                out.value(&[name], worker_sum(scrape, |cells| cells.ended.get(index)));
            }
        },
    },
    Description {
        name: "tidegate_rejections_total",
        kind: Kind::Counter,
        labels: &["code"],
        help: "Requests that the gateway answered itself because something was wrong, by the `code` of the answer.",
        samples: |scrape, out| {
            for (code, counters) in scrape.registry.rejections.iter() {
                out.value(&[code], sum(counters, |counter| Some(&counter.0)));
            }
        },
    },
    Description {
        name: "tidegate_connections_active",
        kind: Kind::Gauge,
        labels: &["listener"],
        help: "Open client connections.",
        samples: |scrape, out| listeners(scrape, out, |cells| Some(&cells.active)),
    },
    Description {
        name: "tidegate_connections_total",
        kind: Kind::Counter,
        labels: &["listener"],
        help: "Client connections accepted.",
        samples: |scrape, out| listeners(scrape, out, |cells| Some(&cells.accepted)),
    },
    Description {
        name: "tidegate_connections_refused_total",
        kind: Kind::Counter,
        labels: &["listener", "reason"],
        help: "Client connections closed before they said anything: a limit was reached (`connections`, \
               `connections_per_client`), or the PROXY protocol header was wrong (`proxy_protocol`).",
        samples: |scrape, out| reasons(scrape, out, &Refused::ALL.map(|(_, name)| name), |cells| &cells.refused),
    },
    Description {
        name: "tidegate_connections_let_go_total",
        kind: Kind::Counter,
        labels: &["listener", "reason"],
        help: "Client connections closed because the peer was too slow, by the name of the timeout or limit, abused HTTP/2 \
               (`flood`), or broke its rules in a way that ends the connection (`http2_error`).",
        samples: |scrape, out| reasons(scrape, out, &LetGo::ALL.map(|(_, name)| name), |cells| &cells.let_go),
    },
    Description {
        name: "tidegate_http2_streams_refused_total",
        kind: Kind::Counter,
        labels: &["listener", "reason"],
        help: "Streams of HTTP/2 that became no exchange: their fields exceed `limits.header_bytes` (`headers_too_large`), they are no \
               valid request (`malformed`), or there were more at once than `limits.streams` (`streams`).",
        samples: |scrape, out| {
            reasons(scrape, out, &RefusedStream::ALL.map(|(_, name)| name), |cells| &cells.refused_streams);
        },
    },
    Description {
        name: "tidegate_tls_handshakes_total",
        kind: Kind::Counter,
        labels: &["listener", "result"],
        help: "TLS handshakes with clients, `ok` or `failed`.",
        samples: |scrape, out| {
            for (name, cells) in scrape.registry.listeners.iter() {
                out.value(&[name, "ok"], sum(cells.clone(), |cells: &ListenerCells| Some(&cells.handshakes)));
                out.value(&[name, "failed"], sum(cells, |cells: &ListenerCells| Some(&cells.handshake_failures)));
            }
        },
    },
    Description {
        name: "tidegate_accept_pauses_total",
        kind: Kind::Counter,
        labels: &[],
        help: "How often accepting stopped for a moment because the process was out of file descriptors.",
        samples: |scrape, out| out.value(&[], worker_sum(scrape, |cells| Some(&cells.accept_pauses))),
    },
    Description {
        name: "tidegate_pool_connections",
        kind: Kind::Gauge,
        labels: &["service", "state"],
        help: "Open connections to upstreams: `active` carry a request, `idle` wait for the next.",
        samples: |scrape, out| {
            for (service, cells) in scrape.registry.pools.iter() {
                out.value(&[service, "active"], sum(cells.clone(), |cells: &PoolCells| Some(&cells.active)));
                out.value(&[service, "idle"], sum(cells, |cells: &PoolCells| Some(&cells.idle)));
            }
        },
    },
    Description {
        name: "tidegate_pool_connects_total",
        kind: Kind::Counter,
        labels: &["service", "result"],
        help: "Connections opened to upstreams (`ok`) and those that could not be (`failed`).",
        samples: |scrape, out| {
            for (service, cells) in scrape.registry.pools.iter() {
                out.value(&[service, "ok"], sum(cells.clone(), |cells: &PoolCells| Some(&cells.opened)));
                out.value(&[service, "failed"], sum(cells, |cells: &PoolCells| Some(&cells.failed)));
            }
        },
    },
    Description {
        name: "tidegate_pool_reuses_total",
        kind: Kind::Counter,
        labels: &["service"],
        help: "Attempts that found an open connection waiting.",
        samples: |scrape, out| pools(scrape, out, |cells| &cells.reused),
    },
    Description {
        name: "tidegate_pool_stale_total",
        kind: Kind::Counter,
        labels: &["service"],
        help: "Attempts repeated because the upstream had closed the pooled connection.",
        samples: |scrape, out| pools(scrape, out, |cells| &cells.stale),
    },
    Description {
        name: "tidegate_passed_over_total",
        kind: Kind::Counter,
        labels: &["service"],
        help: "Endpoints that could not be connected to, so that the request went on to another at once.",
        samples: |scrape, out| pools(scrape, out, |cells| &cells.passed_over),
    },
    Description {
        name: "tidegate_retries_total",
        kind: Kind::Counter,
        labels: &["service"],
        help: "Attempts that repeat a failed one, by the service's `retry`.",
        samples: |scrape, out| pools(scrape, out, |cells| &cells.retries),
    },
    Description {
        name: "tidegate_hedges_total",
        kind: Kind::Counter,
        labels: &["service"],
        help: "Attempts made beside a slow one, by the service's `hedge`.",
        samples: |scrape, out| pools(scrape, out, |cells| &cells.hedges),
    },
    Description {
        name: "tidegate_retry_budget_exhausted_total",
        kind: Kind::Counter,
        labels: &["service"],
        help: "Retries and hedges that were not made because the budget was used up.",
        samples: |scrape, out| pools(scrape, out, |cells| &cells.budget_exhausted),
    },
    Description {
        name: "tidegate_fallbacks_total",
        kind: Kind::Counter,
        labels: &["service"],
        help: "Requests that the service's `fallback` answered, because no endpoint could.",
        samples: |scrape, out| pools(scrape, out, |cells| &cells.fallbacks),
    },
    Description {
        name: "tidegate_mirror_total",
        kind: Kind::Counter,
        labels: &["route", "service", "result"],
        help: "Copies of requests for a mirror: `sent` (answered, whatever the status), `failed` (no answer, or none in time) or \
               `dropped` (too many under way, or the body too long or not whole).",
        samples: |scrape, out| {
            for ((route, service), cells) in scrape.registry.mirrors.iter() {
                out.value(&[route, service, "sent"], sum(cells.clone(), |cells: &MirrorCells| Some(&cells.sent)));
                out.value(&[route, service, "failed"], sum(cells.clone(), |cells: &MirrorCells| Some(&cells.failed)));
                out.value(&[route, service, "dropped"], sum(cells, |cells: &MirrorCells| Some(&cells.dropped)));
            }
        },
    },
    Description {
        name: "tidegate_faults_total",
        kind: Kind::Counter,
        labels: &["route", "kind"],
        help: "Requests that met trouble on purpose: `delay`, `abort`, or one of each.",
        samples: |scrape, out| {
            for (route, cells) in scrape.registry.faults.iter() {
                out.value(&[route, "delay"], sum(cells.clone(), |cells: &FaultCells| Some(&cells.delays)));
                out.value(&[route, "abort"], sum(cells, |cells: &FaultCells| Some(&cells.aborts)));
            }
        },
    },
    Description {
        name: "tidegate_config_revision",
        kind: Kind::Gauge,
        labels: &[],
        help: "The revision of the configuration in use; it grows by one with every reload that changes something.",
        samples: |scrape, out| out.value(&[], read(&scrape.control.revision)),
    },
    Description {
        name: "tidegate_config_last_reload_success",
        kind: Kind::Gauge,
        labels: &[],
        help: "1 when the configuration on disk is the one in use, 0 when the last reload was refused.",
        samples: |scrape, out| out.value(&[], 1 - read(&scrape.control.failing).min(1)),
    },
    Description {
        name: "tidegate_config_last_reload_success_timestamp_seconds",
        kind: Kind::Gauge,
        labels: &[],
        help: "When the configuration in use was put to use, in seconds since the Unix epoch.",
        samples: |scrape, out| out.value(&[], read(&scrape.control.loaded_at)),
    },
    Description {
        name: "tidegate_config_reloads_total",
        kind: Kind::Counter,
        labels: &["result"],
        help: "Reloads, `ok` or `refused`; the start is not one.",
        samples: |scrape, out| {
            out.value(&["ok"], read(&scrape.control.reloads));
            out.value(&["refused"], read(&scrape.control.failures));
        },
    },
    Description {
        name: "tidegate_log_lines_total",
        kind: Kind::Counter,
        labels: &[],
        help: "Access log lines written.",
        samples: |scrape, out| out.value(&[], scrape.log.written()),
    },
    Description {
        name: "tidegate_log_dropped_total",
        kind: Kind::Counter,
        labels: &[],
        help: "Access log lines lost because the disk was full, a pipe was closed or its reader too slow.",
        samples: |scrape, out| out.value(&[], scrape.log.dropped()),
    },
    Description {
        name: "tidegate_operational_log_dropped_total",
        kind: Kind::Counter,
        labels: &[],
        help: "Lines of the operational log lost because standard error was closed or its reader too slow.",
        samples: |scrape, out| out.value(&[], scrape.operational_log.dropped()),
    },
    Description {
        name: "tidegate_panics_total",
        kind: Kind::Counter,
        labels: &[],
        help: "Bugs of the gateway that ended a request or a connection. Please report them.",
        samples: |scrape, out| out.value(&[], worker_sum(scrape, |cells| Some(&cells.panics))),
    },
];

pub(crate) fn render(scrape: &Scrape<'_>) -> String {
    let mut text = String::with_capacity(16 * 1024);
    for metric in descriptions() {
        let (name, kind) = (metric.name, metric.kind.as_str());
        push(&mut text, format_args!("# HELP {name} {}\n# TYPE {name} {kind}\n", metric.help));
        (metric.samples)(scrape, &mut Samples { metric, out: &mut text });
    }
    text
}

/// Writes the series of one metric.
pub(super) struct Samples<'a> {
    metric: &'a Description,
    out: &'a mut String,
}

impl Samples<'_> {
    pub(super) fn value(&mut self, labels: &[&str], value: impl std::fmt::Display) {
        self.series("", labels, "");
        push(self.out, format_args!(" {value}\n"));
    }

    /// For the classes of status that a route never gave: they would be most of the text.
    fn value_unless_zero(&mut self, labels: &[&str], value: u64) {
        if value != 0 {
            self.value(labels, value);
        }
    }

    fn histogram(&mut self, labels: &[&str], total: &HistogramSum) {
        let mut count = 0;
        for (bucket, bound) in total.buckets.iter().zip(BOUNDS) {
            count += bucket;
            self.series("_bucket", labels, &Seconds(bound).to_string());
            push(self.out, format_args!(" {count}\n"));
        }
        count = total.buckets.iter().sum();
        self.series("_bucket", labels, "+Inf");
        push(self.out, format_args!(" {count}\n"));
        self.series("_sum", labels, "");
        push(self.out, format_args!(" {}.{:06}\n", total.micros / 1_000_000, total.micros % 1_000_000));
        self.series("_count", labels, "");
        push(self.out, format_args!(" {count}\n"));
    }

    /// `name{label="value",...}`; a bucket adds its upper bound as `le`.
    fn series(&mut self, suffix: &str, labels: &[&str], bound: &str) {
        self.out.push_str(self.metric.name);
        self.out.push_str(suffix);
        if labels.is_empty() && bound.is_empty() {
            return;
        }
        let mut before = '{';
        for (label, value) in self.metric.labels.iter().zip(labels) {
            push(self.out, format_args!("{before}{label}=\""));
            escape_label(self.out, value);
            self.out.push('"');
            before = ',';
        }
        if !bound.is_empty() {
            push(self.out, format_args!("{before}le=\"{bound}\""));
        }
        self.out.push('}');
    }
}

/// Microseconds as seconds, without needless zeros: `0.0005`, `1`, `2.5`.
struct Seconds(u32);

impl std::fmt::Display for Seconds {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (whole, mut rest) = (self.0 / 1_000_000, self.0 % 1_000_000);
        write!(f, "{whole}")?;
        if rest == 0 {
            return Ok(());
        }
        let mut width = 6;
        while rest % 10 == 0 {
            rest /= 10;
            width -= 1;
        }
        write!(f, ".{rest:0width$}")
    }
}

fn escape_label(out: &mut String, value: &str) {
    for char in value.chars() {
        match char {
            '\\' => out.push_str("\\\\"),
            '"' => out.push_str("\\\""),
            '\n' => out.push_str("\\n"),
            other => out.push(other),
        }
    }
}

fn listeners(scrape: &Scrape<'_>, out: &mut Samples<'_>, cell: fn(&ListenerCells) -> Option<&Cell>) {
    for (name, cells) in scrape.registry.listeners.iter() {
        out.value(&[name], sum(cells, cell));
    }
}

fn reasons(scrape: &Scrape<'_>, out: &mut Samples<'_>, names: &[&str], cells_of: fn(&ListenerCells) -> &[Cell]) {
    for (listener, cells) in scrape.registry.listeners.iter() {
        for (name, index) in names.iter().zip(0..) {
            out.value(&[listener, name], sum(cells.clone(), |cells| cells_of(cells).get(index)));
        }
    }
}

fn pools(scrape: &Scrape<'_>, out: &mut Samples<'_>, cell: fn(&PoolCells) -> &Cell) {
    for (service, cells) in scrape.registry.pools.iter() {
        out.value(&[service], sum(cells, |cells| Some(cell(cells))));
    }
}

fn worker_sum(scrape: &Scrape<'_>, cell: impl Fn(&WorkerCells) -> Option<&Cell>) -> u64 {
    sum(scrape.registry.workers.iter().map(|worker| &**worker), cell)
}

/// Wrapping, because a gauge's cell may pass below zero for a moment while it is read.
fn sum<'a, C: 'a>(all: impl Iterator<Item = &'a C>, cell: impl Fn(&'a C) -> Option<&'a Cell>) -> u64 {
    all.filter_map(cell).fold(0, |sum, cell| sum.wrapping_add(cell.load()))
}

fn read(number: &AtomicU64) -> u64 {
    number.load(Relaxed)
}

fn push(out: &mut String, text: std::fmt::Arguments<'_>) {
    // Writing to a String cannot fail.
    if out.write_fmt(text).is_err() {}
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/metrics.md");

    fn table() -> String {
        let mut table = String::from("| Metric | Kind | Labels | Meaning |\n|---|---|---|---|\n");
        for metric in descriptions() {
            let labels = metric.labels.iter().map(|label| format!("`{label}`")).collect::<Vec<_>>().join(", ");
            let row = format!("| `{}` | {} | {labels} | {} |\n", metric.name, metric.kind.as_str(), metric.help);
            table.push_str(&row);
        }
        table
    }

    #[test]
    fn the_documented_metrics_are_those_that_exist() {
        let page = std::fs::read_to_string(PAGE).expect("docs/metrics.md");
        let (before, rest) = page.split_once("<!-- metrics -->\n").expect("the mark before the table");
        let (_, after) = rest.split_once("<!-- /metrics -->").expect("the mark after the table");
        let expected = format!("{before}<!-- metrics -->\n{}<!-- /metrics -->{after}", table());
        if std::env::var_os("UPDATE").is_some() {
            std::fs::write(PAGE, &expected).expect("docs/metrics.md");
        } else {
            assert_eq!(page, expected, "run the tests with UPDATE=1 to write the table anew");
        }
    }

    #[test]
    fn names_follow_the_conventions_of_prometheus() {
        for Description { name, kind, labels, help, .. } in descriptions() {
            assert!(name.starts_with("tidegate_"), "{name}");
            assert_eq!(name.ends_with("_total"), *kind == Kind::Counter, "{name}");
            assert!(!help.contains(['\n', '\\', '|']) && help.ends_with('.'), "{name}: {help}");
            assert!(labels.len() <= 4 && !labels.contains(&"le"), "{name}");
        }
        let mut names: Vec<_> = descriptions().map(|metric| metric.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), descriptions().count(), "every name once");
    }

    #[test]
    fn bounds_are_written_in_seconds() {
        let text = |micros| Seconds(micros).to_string();
        let all: Vec<_> = [100, 500, 2_500, 1_000_000, 2_500_000, 60_000_000].map(text).into();
        assert_eq!(all, ["0.0001", "0.0005", "0.0025", "1", "2.5", "60"]);
    }
}
