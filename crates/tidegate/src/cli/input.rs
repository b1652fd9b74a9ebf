//! Reading the configuration for a command, and saying what is wrong with it. `run`, `check` and `explain` share it, so that what
//! one accepts the others accept.

use std::cell::OnceCell;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tidegate_config::{Config, Disk, Document, Failure, Inputs, Loaded, Problems, Source};
use tidegate_core::policy::Rules;
use tidegate_policies::{TABLE, VOCABULARY};
use tidegate_proxy::Gateway;

use super::{Console, Outcome};

/// A configuration that was checked as far as is possible without running it.
pub(crate) struct Checked {
    pub(crate) config: Arc<Config>,
    pub(crate) document: Document,
    pub(crate) warnings: Problems,
}

/// Everything that is wrong, and where.
pub(crate) struct Refused {
    pub(crate) document: Document,
    pub(crate) problems: Problems,
}

/// Loads and checks: all that a start or a reload does before it has effects.
pub(crate) fn load(file: &Path, environment: &[(String, String)], source: &dyn Source) -> Result<Checked, Refused> {
    let inputs = Inputs { file, source, env: environment, vocabulary: &VOCABULARY };
    let Loaded { config, mut warnings, document } = tidegate_config::load(&inputs).map_err(|failure| {
        let Failure { document, problems, .. } = failure;
        Refused { document, problems }
    })?;
    let config = Arc::new(config);
    warnings.extend(Gateway::check(&config, &Rules::new(&TABLE)));
    if warnings.has_errors() {
        return Err(Refused { document, problems: warnings });
    }
    Ok(Checked { config, document, warnings })
}

/// Loads for a command, and writes what is wrong. `Err` is how the command ends then.
pub(super) fn read(
    file: &Path,
    environment: &[(String, String)],
    console: &mut Console<'_>,
) -> io::Result<Result<Checked, Outcome>> {
    let source = Kept::new(file, Disk);
    if let Some(outcome) = unreadable(file, &source, console)? {
        return Ok(Err(outcome));
    }
    match load(file, environment, &source) {
        Ok(checked) => {
            write_problems(&checked.document, &checked.warnings, console)?;
            Ok(Ok(checked))
        }
        Err(Refused { document, problems }) => {
            write_problems(&document, &problems, console)?;
            writeln!(console.err, "\n{}", summary(file, &document, &problems))?;
            Ok(Err(Outcome::Problems))
        }
    }
}

/// A file that cannot be read at all is a mistake on the command line, not in the configuration.
pub(super) fn unreadable(file: &Path, source: &dyn Source, console: &mut Console<'_>) -> io::Result<Option<Outcome>> {
    let Err(error) = source.read(file) else { return Ok(None) };
    let why = if error.kind() == io::ErrorKind::NotFound {
        "there is no such file".to_owned()
    } else if error.kind() == io::ErrorKind::IsADirectory {
        "it is a folder; name the file in it".to_owned()
    } else {
        error.to_string()
    };
    writeln!(console.err, "error: cannot read {}: {why}", file.display())?;
    Ok(Some(Outcome::Usage))
}

/// Reads the main file once: `/dev/stdin` and `<(...)` give their content only once.
pub(super) struct Kept<S> {
    file: PathBuf,
    content: OnceCell<Vec<u8>>,
    others: S,
}

impl<S> Kept<S> {
    pub(super) fn new(file: &Path, others: S) -> Self {
        Self { file: file.to_owned(), content: OnceCell::new(), others }
    }
}

impl<S: Source> Source for Kept<S> {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        if path != self.file {
            return self.others.read(path);
        }
        if let Some(content) = self.content.get() {
            return Ok(content.clone());
        }
        let content = self.others.read(path)?;
        Ok(self.content.get_or_init(|| content).clone())
    }

    fn list(&self, pattern: &Path) -> io::Result<Vec<PathBuf>> {
        self.others.list(pattern)
    }
}

/// `gateway.yaml has 2 problems`.
pub(crate) fn summary(file: &Path, document: &Document, problems: &Problems) -> String {
    let errors = document.errors(problems);
    let noun = if errors == 1 { "problem" } else { "problems" };
    format!("{} has {errors} {noun}", file.display())
}

fn write_problems(document: &Document, problems: &Problems, console: &mut Console<'_>) -> io::Result<()> {
    if problems.is_empty() {
        return Ok(());
    }
    writeln!(console.err, "{}", document.render(problems, console.color).trim_end())
}
