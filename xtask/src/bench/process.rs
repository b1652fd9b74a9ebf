//! Processes that are pinned to one CPU, may open many files, and end when their handle is dropped.

use std::{
    fs::File,
    path::Path,
    process::{Child, Command, Stdio},
};

use anyhow::{Context, Result, ensure};

use super::machine;

/// The proxy's CPU, alone.
pub(crate) const PROXY: &str = "0";
/// The CPU of load and backend.
pub(crate) const LOAD: &str = "1";

/// Both.
pub(crate) const ALL: &str = "0,1";

/// A command that will run on these CPUs, and is killed when this program ends, whichever way.
pub(crate) fn pinned(cpus: &str, program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "taskset", "-c", cpus, "prlimit", "--nofile=20000:20000"]);
    command.arg(program).stdin(Stdio::null());
    command
}

/// A process in the background.
pub(crate) struct Background {
    child: Child,
    what: String,
}

impl Background {
    /// Starts `command`, with what it prints going to `output`.
    pub(crate) fn start(command: &mut Command, output: &Path) -> Result<Self> {
        let file = File::create(output)?;
        command.stdout(file.try_clone()?).stderr(file);
        Self::start_as_is(command)
    }

    pub(crate) fn start_as_is(command: &mut Command) -> Result<Self> {
        let what = format!("{command:?}");
        let child = command.spawn().with_context(|| format!("starting {what}"))?;
        Ok(Self { child, what })
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    pub(crate) fn expect_alive(&mut self) -> Result<()> {
        let ended = self.child.try_wait()?;
        ensure!(ended.is_none(), "{} has ended: {ended:?}", self.what);
        Ok(())
    }

    /// Waits for its own, successful end.
    pub(crate) fn finish(mut self) -> Result<()> {
        let status = self.child.wait()?;
        ensure!(status.success(), "{}: {status}", self.what);
        Ok(())
    }

    /// Ends it politely, and what it started with it; after four seconds without manners.
    pub(crate) fn stop(mut self) -> Result<()> {
        let family = machine::family(self.id());
        signal("-TERM", &[self.id()]);
        for _ in 0..400 {
            if self.child.try_wait()?.is_some() {
                break;
            }
            machine::pause(10);
        }
        let left: Vec<u32> = family.into_iter().filter(|id| *id != self.id()).collect();
        signal("-KILL", &left);
        Ok(())
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            signal("-KILL", &machine::family(self.id()));
        }
        // Nothing can be done about a process that cannot be waited for.
        drop(self.child.wait());
    }
}

/// Processes that are gone already are passed over.
fn signal(name: &str, processes: &[u32]) {
    if processes.is_empty() {
        return;
    }
    let ids = processes.iter().map(ToString::to_string);
    drop(Command::new("kill").arg(name).args(ids).stderr(Stdio::null()).status());
}
