//! What is measured, and what is demanded of it.

use super::subject::Mode;

/// One kind of work for all subjects.
pub(crate) struct Work {
    pub(crate) key: &'static str,
    pub(crate) title: &'static str,
    pub(crate) mode: Mode,
    pub(crate) measure: Measure,
    pub(crate) demands: &'static [Demand],
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Measure {
    /// CPU time of the proxy for a request, in microseconds.
    Cpu(Load),
    /// The 99th percentile of latency at a fixed rate, in microseconds.
    Latency,
    /// Resident memory while idle connections are held, in MiB.
    Resident,
    /// From exec to the first proxied answer, in milliseconds.
    Start,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Load {
    Get,
    Post,
    Large,
    Http2,
    Tls,
}

/// What the gateway must reach.
#[derive(Clone, Copy)]
pub(crate) enum Demand {
    /// At most this share of what the named peer needs.
    Share(&'static str, f64),
    /// At most this much.
    AtMost(f64),
}

pub(crate) const ALL: &[Work] = &[
    Work {
        key: "get",
        title: "1 KiB GET, HTTP/1.1 keep-alive",
        mode: Mode::Plain,
        measure: Measure::Cpu(Load::Get),
        demands: &[Demand::Share("nginx", 0.85), Demand::Share("haproxy", 0.85), Demand::Share("envoy", 0.35)],
    },
    Work {
        key: "log",
        title: "the same, JSON access log to a file",
        mode: Mode::Log,
        measure: Measure::Cpu(Load::Get),
        demands: &[Demand::Share("nginx", 0.85), Demand::Share("haproxy", 0.85)],
    },
    Work {
        key: "post",
        title: "POST 10 KiB",
        mode: Mode::Plain,
        measure: Measure::Cpu(Load::Post),
        demands: &[Demand::Share("nginx", 0.80)],
    },
    Work {
        key: "large",
        title: "GET 100 KiB",
        mode: Mode::Plain,
        measure: Measure::Cpu(Load::Large),
        demands: &[Demand::Share("nginx", 0.65), Demand::Share("haproxy", 0.95)],
    },
    Work {
        key: "h2c",
        title: "h2c in, HTTP/1.1 out",
        mode: Mode::Plain,
        measure: Measure::Cpu(Load::Http2),
        demands: &[Demand::Share("nginx", 0.95)],
    },
    Work {
        key: "tls",
        title: "HTTPS, HTTP/1.1 keep-alive, 1 KiB",
        mode: Mode::Plain,
        measure: Measure::Cpu(Load::Tls),
        demands: &[Demand::Share("nginx", 0.90)],
    },
    Work {
        key: "p99",
        title: "p99 at 5,000 req/s over 64 connections",
        mode: Mode::Plain,
        measure: Measure::Latency,
        demands: &[Demand::Share("nginx", 1.1)],
    },
    Work {
        key: "idle",
        title: "memory with 5,000 idle keep-alive connections",
        mode: Mode::Plain,
        measure: Measure::Resident,
        demands: &[Demand::AtMost(25.0)],
    },
    Work {
        key: "start",
        title: "start to first answer",
        mode: Mode::Plain,
        measure: Measure::Start,
        demands: &[Demand::AtMost(100.0)],
    },
];

pub(crate) fn keys() -> Vec<&'static str> {
    ALL.iter().map(|work| work.key).collect()
}

impl Measure {
    /// Whether other works may be measured on the same process before and after.
    pub(crate) fn shares_a_process(self) -> bool {
        match self {
            Self::Cpu(_) | Self::Latency => true,
            Self::Resident | Self::Start => false,
        }
    }

    pub(crate) fn unit(self) -> &'static str {
        match self {
            Self::Cpu(_) => "us CPU",
            Self::Latency => "us",
            Self::Resident => "MiB",
            Self::Start => "ms",
        }
    }
}
