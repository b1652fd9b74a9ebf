//! `tidegate check`: everything that `run` does before it opens a socket.

use std::io;
use std::path::PathBuf;

use serde_json::json;
use tidegate_config::{Disk, Document, Problems};

use super::input::{self, Checked, Kept, Refused};
use super::{Console, Outcome};

/// Check a configuration and say everything that is wrong with it
///
/// Does all that `run` does before it opens a socket: reads the file and what it includes, applies the environment, checks every
/// value, loads certificates, builds the routing table. All problems come at once, each with its file, line and advice.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "Examples:
  tidegate check gateway.yaml
  tidegate check gateway.yaml --show                # every value in effect, and where it came from
  tidegate check gateway.yaml --format json         # for editors and pipelines
  SERVER_PORT=9000 tidegate check gateway.yaml      # the environment counts, as it does for `run`

Exit codes:
  0  the configuration can be run (there may be warnings)
  1  it has problems
  2  the command line is wrong, or the file cannot be read")]
pub(super) struct Args {
    /// The configuration file, YAML or JSON
    #[arg(value_name = "FILE")]
    file: PathBuf,

    /// Print every value in effect with its origin: file and line, environment, or default. Secrets are not printed
    #[arg(long)]
    show: bool,

    /// How to print problems
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    format: Format,
}

/// For people or for programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Format {
    /// With excerpts, for people
    Text,
    /// One JSON object on standard output, for programs
    Json,
}

pub(super) fn check(args: &Args, environment: &[(String, String)], console: &mut Console<'_>) -> io::Result<Outcome> {
    if args.format == Format::Json {
        return check_json(args, environment, console);
    }
    let checked = match input::read(&args.file, environment, console)? {
        Ok(checked) => checked,
        Err(outcome) => return Ok(outcome),
    };
    if args.show {
        writeln!(console.out, "{}", checked.document.show().trim_end())?;
    } else {
        writeln!(console.out, "{} is valid: {}", args.file.display(), counts(&checked))?;
    }
    Ok(Outcome::Done)
}

fn check_json(args: &Args, environment: &[(String, String)], console: &mut Console<'_>) -> io::Result<Outcome> {
    let source = Kept::new(&args.file, Disk);
    if let Some(outcome) = input::unreadable(&args.file, &source, console)? {
        return Ok(outcome);
    }
    let problems = |document: &Document, problems: &Problems| document.problems_json(problems);
    let (answer, outcome) = match input::load(&args.file, environment, &source) {
        Ok(Checked { document, warnings, .. }) => {
            let mut answer = json!({ "valid": true, "problems": problems(&document, &warnings) });
            if args.show
                && let Some(answer) = answer.as_object_mut()
            {
                answer.insert("effective".into(), document.show().into());
            }
            (answer, Outcome::Done)
        }
        Err(Refused { document, problems: found }) => {
            (json!({ "valid": false, "problems": problems(&document, &found) }), Outcome::Problems)
        }
    };
    writeln!(console.out, "{answer:#}")?;
    Ok(outcome)
}

/// `2 listeners, 3 services, 1 route`.
fn counts(checked: &Checked) -> String {
    let config = &checked.config;
    let count = |count: usize, noun: &str| format!("{count} {noun}{}", if count == 1 { "" } else { "s" });
    [
        count(config.server.listeners.len(), "listener"),
        count(config.services.len(), "service"),
        count(config.routes.len(), "route"),
    ]
    .join(", ")
}
