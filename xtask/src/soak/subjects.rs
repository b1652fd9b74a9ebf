//! The gateways that are soaked: on both CPUs, each with the means it has against sick endpoints.

use crate::bench::{
    process,
    subject::{HTTP1, Kind},
};

const ENVOY: &[&str] = &["-c", "CONFIG", "--concurrency", "2", "--log-level", "off", "--disable-hot-restart"];

pub(super) const ALL: &[Kind] = &[
    Kind {
        name: "tidegate",
        program: "tidegate",
        config: "bench/soak/tidegate.yaml",
        http2: HTTP1,
        arguments: &["run", "CONFIG"],
        version: "--version",
        cpus: process::ALL,
        mark: "",
    },
    Kind {
        name: "envoy",
        program: "envoy",
        config: "bench/peers/envoy-soak.yaml",
        http2: HTTP1,
        arguments: ENVOY,
        version: "--version",
        cpus: process::ALL,
        mark: "#defaults ",
    },
    Kind {
        name: "envoy-equal",
        program: "envoy",
        config: "bench/peers/envoy-soak.yaml",
        http2: HTTP1,
        arguments: ENVOY,
        version: "--version",
        cpus: process::ALL,
        mark: "#equal ",
    },
    Kind {
        name: "haproxy",
        program: "haproxy",
        config: "bench/peers/haproxy-soak.cfg",
        http2: HTTP1,
        arguments: &["-db", "-f", "CONFIG"],
        version: "-v",
        cpus: process::ALL,
        mark: "",
    },
];
