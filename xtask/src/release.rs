//! `cargo xtask release`: the gateway as it is published. It is built twice: first so that it counts which way its code goes while it
//! does every kind of work of the bench, then by what was counted, so that what is usual lies together and what is rare out of its way.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};
use clap::Args;

use crate::{bench, cargo};

/// How long it is trained.
#[derive(Args)]
pub(crate) struct Options {
    /// Seconds of each kind of work
    #[arg(long, default_value_t = 3)]
    seconds: u32,
}

/// What a request needs once is usual too, though loops over bytes are counted a thousand times as often and are nearly all that
/// was counted: neither is it laid aside, nor made small at the expense of time.
const USUAL: &str = "-Cllvm-args=-profile-summary-cutoff-hot=999900 -Cllvm-args=-pgso=false";

pub(crate) fn run(root: &Path, options: &Options) -> Result<()> {
    let gateway = build(root, options.seconds)?;
    println!("{}", gateway.display());
    Ok(())
}

/// Builds it and tells where it is.
pub(crate) fn build(root: &Path, seconds: u32) -> Result<PathBuf> {
    let profdata = profdata()?;
    let folder = cargo::target(root).join("published");
    let counted = folder.join("counted");
    if counted.exists() {
        fs::remove_dir_all(&counted).context("removing what was counted last time")?;
    }
    fs::create_dir_all(&counted).context("making the folder of the counts")?;
    let counting = compile(root, &folder, &format!("-Cprofile-generate={}", counted.display()))?;
    // The next build takes its place.
    let trained = folder.join("tidegate-counting");
    fs::copy(&counting, &trained).context("keeping the program that counts")?;
    bench::train(root, &trained, seconds)?;
    let merged = folder.join("merged.profdata");
    cargo::run(Command::new(profdata).args(["merge", "-o"]).arg(&merged).arg(&counted))?;
    let built = compile(root, &folder, &format!("-Cprofile-use={} {USUAL}", merged.display()))?;
    let published = folder.join("tidegate");
    fs::copy(&built, &published).context("putting the program in its place")?;
    Ok(published)
}

/// For a named target, so that what runs while building neither counts nor is built by counts.
fn compile(root: &Path, folder: &Path, flags: &str) -> Result<PathBuf> {
    let target = host()?;
    let mut build = cargo::command(root);
    build.args(["build", "--quiet", "--locked", "--release", "--package", "tidegate", "--target", &target]);
    cargo::run(build.env("RUSTFLAGS", flags).env("CARGO_TARGET_DIR", folder))?;
    Ok(folder.join(target).join("release/tidegate"))
}

fn host() -> Result<String> {
    let printed = cargo::printed(Command::new("rustc").arg("-vV"))?;
    let host = printed.lines().find_map(|line| line.strip_prefix("host: "));
    host.map(str::to_owned).context("rustc -vV names no host")
}

/// The program that merges counts; it must be as old as the compiler, and so comes with it.
fn profdata() -> Result<PathBuf> {
    let sysroot = cargo::printed(Command::new("rustc").args(["--print", "sysroot"]))?;
    let program = Path::new(sysroot.trim()).join("lib/rustlib").join(host()?).join("bin/llvm-profdata");
    if !program.exists() {
        // Fails where Rust was not installed by rustup; what to do then is said below.
        Command::new("rustup").args(["component", "add", "llvm-tools"]).status().ok();
    }
    ensure!(program.exists(), "{} is missing: run `rustup component add llvm-tools`", program.display());
    Ok(program)
}
