//! The command line: what there is to say, and which code the process ends with. Each command is one file below.

mod check;
mod completions;
mod console;
mod demo;
mod explain;
pub(crate) mod input;
mod keys;
mod run;
mod schema;

use std::io;
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

pub use console::Console;

/// Parses the process's arguments and does what they say.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let environment: Vec<(String, String)> = environment();
    match execute(cli, &environment, &mut Console::of_the_process()) {
        Ok(outcome) => outcome.into(),
        // Whoever read our output has had enough: `tidegate schema | head`.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(_) => Outcome::Problems.into(),
    }
}

/// Does what the arguments say. Errors are those of writing to the console.
pub fn execute(cli: Cli, environment: &[(String, String)], console: &mut Console<'_>) -> io::Result<Outcome> {
    match cli.command {
        Command::Run(args) => run::run(&args, environment, console),
        Command::Check(args) => check::check(&args, environment, console),
        Command::Explain(args) => explain::explain(&args, environment, console),
        Command::Demo(args) => demo::demo(&args, console),
        Command::Keys(args) => keys::keys(&args, console),
        Command::Schema => schema::schema(console),
        Command::Completions(args) => completions::completions(&args, Cli::command(), console),
    }
}

/// How a command ended; the exit codes are part of the interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// 0: done.
    Done,
    /// 1: the configuration has problems, or what it asks for cannot be had.
    Problems,
    /// 2: the command line is wrong, or the file cannot be read.
    Usage,
    /// 128 and the signal's number: a second signal ended the process at once.
    Killed(u8),
}

impl Outcome {
    /// The process's exit code.
    pub fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Problems => 1,
            Self::Usage => 2,
            Self::Killed(signal) => 128 + signal,
        }
    }
}

impl From<Outcome> for ExitCode {
    fn from(outcome: Outcome) -> Self {
        Self::from(outcome.code())
    }
}

/// Tidegate: an API gateway. One binary, one file.
///
/// Tidegate stands in front of your services: it takes requests, finds the route that fits best, and forwards them, with TLS,
/// HTTP/2, timeouts, limits, logs and metrics. It is configured by one YAML file, which it watches and reloads without losing a
/// request.
#[derive(Debug, Parser)]
#[command(name = "tidegate", version, long_version = LONG_VERSION, max_term_width = 100, after_long_help = AFTER_HELP)]
#[command(propagate_version = true, arg_required_else_help = true)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Run(run::Args),
    Check(check::Args),
    Explain(explain::Args),
    Demo(demo::Args),
    Keys(keys::Args),
    /// Print the JSON Schema of the configuration, for editors
    ///
    /// With it an editor completes keys and shows their meaning while you type. The schema describes the file, not the rules
    /// between its parts: `tidegate check` knows all of them.
    #[command(after_long_help = "Examples:
  tidegate schema > tidegate.schema.json

  # and at the top of your file, for editors with a YAML language server:
  # yaml-language-server: $schema=tidegate.schema.json")]
    Schema,
    Completions(completions::Args),
}

const LONG_VERSION: &str = concat!(
    env!("CARGO_PKG_VERSION"),
    "\ntarget:   ",
    env!("TIDEGATE_TARGET"),
    "\ncompiler: ",
    env!("TIDEGATE_RUSTC"),
    "\nTLS:      rustls with aws-lc-rs\nHTTP:     1.0, 1.1 (own codec), 2 (h2)\nlicence:  ",
    env!("CARGO_PKG_LICENSE"),
);

const AFTER_HELP: &str = "\
Start here:
  tidegate demo                                 three small services behind a gateway
  tidegate check gateway.yaml                   every mistake at once, each with its line
  tidegate run gateway.yaml                     serve
  tidegate explain gateway.yaml GET /users/7    which route, and why not the others

Exit codes:
  0  done
  1  the configuration has problems, or an address or file it names cannot be had
  2  the command line is wrong, or the configuration file cannot be read
  130, 143  a second Ctrl-C or SIGTERM ended the drain at once";

/// Variables that are not Unicode cannot be meant for the gateway.
fn environment() -> Vec<(String, String)> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn exit_codes_are_as_documented() {
        let codes = [Outcome::Done, Outcome::Problems, Outcome::Usage, Outcome::Killed(2), Outcome::Killed(15)];
        assert_eq!(codes.map(Outcome::code), [0, 1, 2, 130, 143]);
    }
}
