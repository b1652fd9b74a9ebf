//! `tidegate schema`.

use std::io;

use tidegate_policies::VOCABULARY;

use super::{Console, Outcome};

pub(super) fn schema(console: &mut Console<'_>) -> io::Result<Outcome> {
    writeln!(console.out, "{:#}", tidegate_config::schema(&VOCABULARY))?;
    Ok(Outcome::Done)
}
