//! Who may link what: the layers of the architecture, packages that must never appear, duplicates and licences.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;

use super::{
    licence,
    metadata::{Linked, Metadata},
};

/// What a crate must not link, not even through others, and why.
const LAYERS: &[(&str, &[&str], &str)] = &[
    ("tidegate-http1", IO, "the codec is pure: bytes in, events out"),
    ("tidegate-config", IO, "configuration opens no sockets and reads no clock"),
    ("tidegate-core", IO, "core decides, it does not act"),
    ("tidegate-proxy", &["clap", "notify"], "the proxy knows no files or arguments"),
];

const IO: &[&str] = &["tokio", "mio", "socket2", "h2", "hyper", "rustls", "aws-lc-rs", "notify", "tidegate-proxy"];

/// All that the codec may name in its manifest.
const HTTP1_MAY_USE: &[&str] = &["bytes", "http", "memchr"];

/// Not in the tree of anything, tests included.
const NEVER: &[(&str, &str)] = &[
    ("openssl", "one TLS library: rustls"),
    ("openssl-sys", "one TLS library: rustls"),
    ("native-tls", "one TLS library: rustls"),
    ("ring", "one crypto library: aws-lc-rs"),
    ("rsa", "RUSTSEC-2023-0071, never fixed"),
    ("serde_yaml", "not maintained"),
];

/// Packages of which the program links two versions, each with the reason why that is borne.
const DUPLICATES: &[(&str, &str)] = &[];

pub(super) fn violations(metadata: &Metadata) -> Result<Vec<String>> {
    let everything = metadata.everything()?;
    let mut violations = layers(metadata)?;
    violations.extend(codec(metadata));
    violations.extend(never(&everything));
    violations.extend(duplicates(&metadata.linked_by("tidegate")?));
    violations.extend(everything.iter().filter_map(|linked| licence_violation(metadata, linked)));
    Ok(violations)
}

fn layers(metadata: &Metadata) -> Result<Vec<String>> {
    let mut violations = Vec::new();
    for (name, forbidden, reason) in LAYERS {
        for package in metadata.linked_by(name)? {
            if forbidden.contains(&package.name.as_str()) {
                violations.push(format!("{name} links {}: {reason}", package.name));
            }
        }
    }
    Ok(violations)
}

fn codec(metadata: &Metadata) -> Vec<String> {
    let Some(package) = metadata.package("tidegate-http1") else { return Vec::new() };
    let ordinary = package.dependencies.iter().filter(|dependency| dependency.kind.is_none());
    ordinary
        .filter(|dependency| !HTTP1_MAY_USE.contains(&dependency.name.as_str()))
        .map(|dependency| format!("tidegate-http1 may not use {}, only {HTTP1_MAY_USE:?}", dependency.name))
        .collect()
}

fn never(everything: &BTreeSet<Linked>) -> Vec<String> {
    let mut violations = Vec::new();
    for (name, reason) in NEVER {
        if everything.iter().any(|linked| linked.name == *name) {
            violations.push(format!("{name} is in the tree: {reason}"));
        }
    }
    violations
}

fn duplicates(program: &BTreeSet<Linked>) -> Vec<String> {
    let mut versions: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for linked in program {
        versions.entry(&linked.name).or_default().push(&linked.version);
    }
    let mut violations = Vec::new();
    for (name, found) in &versions {
        let borne = DUPLICATES.iter().any(|(borne, _)| borne == name);
        if found.len() > 1 && !borne {
            violations.push(format!("the program links {name} {} times: {found:?}", found.len()));
        }
        if found.len() == 1 && borne {
            violations.push(format!("{name} is no longer linked twice: take it off the list of duplicates"));
        }
    }
    violations
}

fn licence_violation(metadata: &Metadata, linked: &Linked) -> Option<String> {
    let name = &linked.name;
    let Some(expression) = metadata.described(linked).and_then(|package| package.license.as_deref()) else {
        return Some(format!("{name} names no licence"));
    };
    (!licence::is_allowed(expression)).then(|| format!("{name} has a licence that is not on the list: {expression}"))
}
