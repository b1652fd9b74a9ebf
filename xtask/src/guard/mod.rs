//! Rules about the repository that neither the compiler nor clippy can check. Each rule gives its violations as
//! sentences that say what is wrong, where, and which rule it breaks.

use std::path::Path;

use anyhow::Result;

use self::{metadata::Metadata, sources::Source};

mod dependencies;
mod documents;
mod licence;
mod metadata;
mod sources;

/// Every violation in the workspace at `root`, sorted; empty when all is well.
pub(crate) fn check(root: &Path) -> Result<Vec<String>> {
    let metadata = Metadata::of(root)?;
    let sources = Source::all_below(root)?;
    let mut violations = Vec::new();
    violations.extend(dependencies::violations(&metadata)?);
    violations.extend(sources.iter().flat_map(Source::violations));
    violations.extend(documents::violations(root, &metadata)?);
    violations.sort();
    violations.dedup();
    Ok(violations)
}
