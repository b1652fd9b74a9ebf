//! What is measured, and what is demanded of it.

use super::{process, subject::Mode};

/// One kind of work for all subjects.
pub(crate) struct Work {
    pub(crate) key: &'static str,
    pub(crate) title: &'static str,
    pub(crate) mode: Mode,
    pub(crate) measure: Measure,
    /// Who can do it.
    pub(crate) subjects: &'static [&'static str],
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
    /// One of the numbers that a program of ours prints about a part of the gateway.
    Part(&'static Part, Number),
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Load {
    Get,
    Post,
    Large,
    Http2,
    Tls,
}

/// A program that measures a part by itself: an example of the package `bench`.
#[derive(PartialEq, Eq)]
pub(crate) struct Part {
    pub(crate) example: &'static str,
    /// Before the seconds that it may take.
    pub(crate) arguments: &'static [&'static str],
    pub(crate) cpus: &'static str,
    /// A program that must be there, and the Debian package that has it.
    pub(crate) needs: Option<(&'static str, &'static str)>,
}

/// A number that such a program prints.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Number {
    pub(crate) name: &'static str,
    pub(crate) unit: &'static str,
    /// Behind the point.
    digits: usize,
}

/// What the gateway must reach.
#[derive(Clone, Copy)]
pub(crate) enum Demand {
    /// At most this share of what the named peer needs.
    Share(&'static str, f64),
    /// At most this much.
    AtMost(f64),
    /// At least this much.
    AtLeast(f64),
}

const EVERYONE: &[&str] = &["tidegate", "nginx", "haproxy", "envoy"];
const WE: &[&str] = &["tidegate"];

const CRYPTO: Part = Part { example: "policies", arguments: &["crypto"], cpus: process::PROXY, needs: None };
const LIMITER: Part = Part { example: "limiter_time", arguments: &[], cpus: process::ALL, needs: None };
const REDIS: Part = Part {
    example: "policies",
    arguments: &["redis"],
    cpus: process::ALL,
    needs: Some(("redis-server", "redis-server")),
};

pub(crate) const ALL: &[Work] = &[
    Work {
        key: "get",
        title: "1 KiB GET, HTTP/1.1 keep-alive",
        mode: Mode::Plain,
        measure: Measure::Cpu(Load::Get),
        subjects: EVERYONE,
        demands: &[Demand::Share("nginx", 0.85), Demand::Share("haproxy", 0.85), Demand::Share("envoy", 0.35)],
    },
    Work {
        key: "log",
        title: "the same, JSON access log to a file",
        mode: Mode::Log,
        measure: Measure::Cpu(Load::Get),
        subjects: EVERYONE,
        demands: &[Demand::Share("nginx", 0.85), Demand::Share("haproxy", 0.85)],
    },
    Work {
        key: "post",
        title: "POST 10 KiB",
        mode: Mode::Plain,
        measure: Measure::Cpu(Load::Post),
        subjects: EVERYONE,
        demands: &[Demand::Share("nginx", 0.80)],
    },
    Work {
        key: "large",
        title: "GET 100 KiB",
        mode: Mode::Plain,
        measure: Measure::Cpu(Load::Large),
        subjects: EVERYONE,
        demands: &[Demand::Share("nginx", 0.65), Demand::Share("haproxy", 0.95)],
    },
    Work {
        key: "h2c",
        title: "h2c in, HTTP/1.1 out",
        mode: Mode::Plain,
        measure: Measure::Cpu(Load::Http2),
        subjects: EVERYONE,
        demands: &[Demand::Share("nginx", 0.95)],
    },
    Work {
        key: "tls",
        title: "HTTPS, HTTP/1.1 keep-alive, 1 KiB",
        mode: Mode::Plain,
        measure: Measure::Cpu(Load::Tls),
        subjects: EVERYONE,
        demands: &[Demand::Share("nginx", 0.90)],
    },
    Work {
        key: "limited",
        title: "API key, roles and a limit for each client; nginx: `limit_req` alone",
        mode: Mode::Limited,
        measure: Measure::Cpu(Load::Get),
        subjects: &["tidegate", "nginx"],
        demands: &[Demand::Share("nginx", 0.95)],
    },
    Work {
        key: "jwt",
        title: "HS256 JWT, roles and a limit for each client; Envoy: `jwt_authn` and local rate limit",
        mode: Mode::Jwt,
        measure: Measure::Cpu(Load::Get),
        subjects: &["tidegate", "envoy"],
        demands: &[Demand::Share("envoy", 0.35)],
    },
    Work {
        key: "p99",
        title: "p99 at 5,000 req/s over 64 connections",
        mode: Mode::Plain,
        measure: Measure::Latency,
        subjects: EVERYONE,
        demands: &[Demand::Share("nginx", 1.1)],
    },
    Work {
        key: "idle",
        title: "memory with 5,000 idle keep-alive connections",
        mode: Mode::Plain,
        measure: Measure::Resident,
        subjects: EVERYONE,
        demands: &[Demand::AtMost(25.0)],
    },
    Work {
        key: "start",
        title: "start to first answer",
        mode: Mode::Plain,
        measure: Measure::Start,
        subjects: EVERYONE,
        demands: &[Demand::AtMost(100.0)],
    },
    part(
        "crypto",
        "ES256 token, uncached, to one verification by the library",
        &CRYPTO,
        ("ratio", "times", 2),
        &[Demand::AtMost(1.15)],
    ),
    part(
        "limiter",
        "decision of a limit, 1 million keys, 2 threads",
        &LIMITER,
        ("decision", "ns", 0),
        &[Demand::AtMost(150.0)],
    ),
    part("limiter_read", "the same, to one read of memory in its place", &LIMITER, ("to_read", "times", 2), &[]),
    part("limiter_key", "memory for each of 1 million keys", &LIMITER, ("key", "bytes", 1), &[Demand::AtMost(64.0)]),
    part(
        "redis",
        "exact decisions in Redis by one worker",
        &REDIS,
        ("decisions", "/s", 0),
        &[Demand::AtLeast(30_000.0)],
    ),
    part("redis_trips", "round trips for each of them", &REDIS, ("round_trips", "", 3), &[Demand::AtMost(1.0)]),
];

/// A number that a program of ours prints: its name, its unit, and digits behind the point.
const fn part(
    key: &'static str,
    title: &'static str,
    part: &'static Part,
    (name, unit, digits): (&'static str, &'static str, usize),
    demands: &'static [Demand],
) -> Work {
    let measure = Measure::Part(part, Number { name, unit, digits });
    Work { key, title, mode: Mode::Plain, measure, subjects: WE, demands }
}

pub(crate) fn keys() -> Vec<&'static str> {
    ALL.iter().map(|work| work.key).collect()
}

impl Measure {
    /// Whether other works may be measured on the same process before and after.
    pub(crate) fn shares_a_process(self) -> bool {
        match self {
            Self::Cpu(_) | Self::Latency => true,
            Self::Resident | Self::Start | Self::Part(..) => false,
        }
    }

    /// The program that measures it, if it is one of ours.
    pub(crate) fn part(self) -> Option<(&'static Part, Number)> {
        match self {
            Self::Part(part, number) => Some((part, number)),
            Self::Cpu(_) | Self::Latency | Self::Resident | Self::Start => None,
        }
    }

    /// Behind the point.
    pub(crate) fn digits(self) -> usize {
        self.part().map_or(1, |(_, number)| number.digits)
    }

    pub(crate) fn unit(self) -> &'static str {
        match self {
            Self::Cpu(_) => "us CPU",
            Self::Latency => "us",
            Self::Resident => "MiB",
            Self::Start => "ms",
            Self::Part(_, number) => number.unit,
        }
    }
}
