//! The project's own chores, as one program: `cargo xtask guard | instructions | bench | pair | soak | release`.
#![expect(clippy::print_stdout, reason = "a program for people at a terminal")]
#![expect(clippy::disallowed_methods, reason = "benches run on the real clock")]

use std::env;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::{Parser, Subcommand};

mod bench;
mod cargo;
mod documents;
mod guard;
mod instructions;
mod release;
mod soak;

/// Chores of the Tidegate project.
#[derive(Parser)]
#[command(name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    chore: Chore,
}

#[derive(Subcommand)]
enum Chore {
    /// Checks what the compiler does not: who may depend on whom, licences, sizes, who spawns and who reads a clock
    Guard,
    /// Runs `tidegate check` on every example and on every YAML block of the documents
    Documents,
    /// Counts the instructions that every request costs, and fails when they rise
    Instructions(instructions::Options),
    /// Compares the gateway with nginx, HAProxy and Envoy: CPU per request, memory, latency, start
    Bench(bench::Options),
    /// Tells which of two gateways needs less CPU for a small request, also where the machine is noisy
    Pair(bench::pair::Options),
    /// Lets endpoints fail, or clients be slow, under load, and tells what others notice of it
    #[command(subcommand)]
    Soak(soak::Kind),
    /// Builds the gateway as it is published: by counts of which way its code goes under the loads of the bench
    Release(release::Options),
}

fn main() -> Result<()> {
    let root = workspace_root()?;
    match Arguments::parse().chore {
        Chore::Guard => report_violations(&root),
        Chore::Documents => documents::run(&root),
        Chore::Instructions(options) => instructions::run(&root, &options),
        Chore::Bench(options) => bench::run(&root, &options),
        Chore::Pair(options) => bench::pair::run(&root, &options),
        Chore::Soak(kind) => soak::run(&root, &kind),
        Chore::Release(options) => release::run(&root, &options),
    }
}

fn report_violations(root: &Path) -> Result<()> {
    let violations = guard::check(root)?;
    if violations.is_empty() {
        println!("guard: nothing to complain about");
        return Ok(());
    }
    for violation in &violations {
        println!("guard: {violation}");
    }
    bail!("{} violation(s)", violations.len())
}

/// The folder of the workspace: the one above this package's, as cargo tells it to what it runs. What it told the
/// compiler is another's where two checkouts share a folder for what they build.
fn workspace_root() -> Result<PathBuf> {
    let package = env::var_os("CARGO_MANIFEST_DIR").context("call it as `cargo xtask`")?;
    Ok(Path::new(&package).parent().context("xtask lies inside the workspace")?.to_path_buf())
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_workspace_keeps_its_own_rules() -> anyhow::Result<()> {
        let violations = crate::guard::check(&crate::workspace_root()?)?;
        assert!(violations.is_empty(), "\n{}\n", violations.join("\n"));
        Ok(())
    }
}
