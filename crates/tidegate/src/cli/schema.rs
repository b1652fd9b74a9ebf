//! `tidegate schema`.

use std::io;

use super::{Console, Outcome};

pub(super) fn schema(console: &mut Console<'_>) -> io::Result<Outcome> {
    writeln!(console.out, "{:#}", tidegate_config::schema())?;
    Ok(Outcome::Done)
}
