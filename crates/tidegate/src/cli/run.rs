//! `tidegate run`.

use std::fs;
use std::io;
use std::path::PathBuf;

use tidegate_config::Disk;

use super::input::{self, Kept};
use super::{Console, Outcome};
use crate::operations::{Failure, Operations};
use crate::reload::Origin;
use crate::signals::Signals;

/// Run the gateway
///
/// Listens, forwards, and reloads the file whenever it changes: everything is built first and then swapped, requests under way
/// finish on what they began with, and a file with problems changes nothing but a log line, a metric and `/readyz?verbose`.
///
/// Signals: SIGHUP reloads and reopens the access log. SIGTERM and SIGINT drain: readiness fails first, after `drain_delay` nothing
/// is accepted any more, and requests under way have until `server.timeouts.drain`. A second one ends at once.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "Examples:
  tidegate run gateway.yaml
  SERVER_PORT=9000 tidegate run gateway.yaml
  tidegate run gateway.yaml 2> gateway.log       # the access log, if any, goes to standard output, all else here

Exit codes:
  0    drained after SIGTERM or SIGINT
  1    the configuration has problems, or an address or file it names cannot be had
  2    the command line is wrong, or the file cannot be read
  130  a second signal, SIGINT, ended it at once
  143  a second signal, SIGTERM, ended it at once")]
pub(super) struct Args {
    /// The configuration file, YAML or JSON
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

pub(super) fn run(args: &Args, environment: &[(String, String)], console: &mut Console<'_>) -> io::Result<Outcome> {
    let kept = Kept::new(&args.file, Disk);
    if let Some(outcome) = input::unreadable(&args.file, &kept, console)? {
        return Ok(outcome);
    }
    // A pipe gives its content once and can neither be watched nor read again.
    let watching = fs::metadata(&args.file).is_ok_and(|metadata| metadata.is_file());
    let source: Box<dyn tidegate_config::Source> = if watching { Box::new(Disk) } else { Box::new(kept) };
    let origin = Origin { file: args.file.clone(), environment: environment.to_vec(), source };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let signals = Signals::new()?;
        match Operations::start(origin, console.color) {
            Ok(operations) => Ok(operations.run(signals, watching).await.map_or(Outcome::Done, Outcome::Killed)),
            Err(failure) => refuse(&failure, console),
        }
    })
}

fn refuse(failure: &Failure, console: &mut Console<'_>) -> io::Result<Outcome> {
    match failure {
        Failure::Configuration(text) => writeln!(console.err, "{}", text.trim_end())?,
        Failure::Machine(text) => writeln!(console.err, "error: {text}")?,
    }
    Ok(Outcome::Problems)
}
