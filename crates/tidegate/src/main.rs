//! The program. All of it is in the library next to this file, so that tests can call it.

use std::process::ExitCode;

fn main() -> ExitCode {
    tidegate::cli::main()
}
