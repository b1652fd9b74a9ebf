//! Where a command writes: results to one side, what people should know to the other. Tests read both.

use std::io::{self, IsTerminal, Write};

/// The two streams of a command.
pub struct Console<'a> {
    /// Results: what a pipe should get.
    pub out: Box<dyn Write + 'a>,
    /// Problems and notes.
    pub err: Box<dyn Write + 'a>,
    /// Whether `err` shows colours.
    pub color: bool,
}

impl Console<'_> {
    /// The process's own streams; colours on a terminal, unless `NO_COLOR` is set.
    pub fn of_the_process() -> Self {
        let wanted = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        Self { out: Box::new(io::stdout()), err: Box::new(io::stderr()), color: wanted && io::stderr().is_terminal() }
    }
}
