//! `tidegate completions`.

use std::io;

use clap_complete::Shell;

use super::{Console, Outcome};

/// Print a completion script for your shell
///
/// The script completes commands, options and file names.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "Examples:
  tidegate completions bash > ~/.local/share/bash-completion/completions/tidegate
  tidegate completions zsh  > ~/.zfunc/_tidegate
  tidegate completions fish > ~/.config/fish/completions/tidegate.fish")]
pub(super) struct Args {
    /// The shell
    shell: Shell,
}

pub(super) fn completions(args: &Args, mut command: clap::Command, console: &mut Console<'_>) -> io::Result<Outcome> {
    // Made in memory first, because the generator panics when it cannot write.
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut command, "tidegate", &mut script);
    console.out.write_all(&script)?;
    Ok(Outcome::Done)
}
