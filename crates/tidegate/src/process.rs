//! The process as the operating system sees it: what it uses, as the metrics that every Prometheus client library has (where there is
//! no `/proc`, there are none), and how many files it may open.

use std::fmt::Write;
use std::fs;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Linux tells processor time in hundredths of a second, whatever its own clock ticks at.
const TICKS: u64 = 100;

/// What the process uses at this moment.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Usage {
    cpu: Option<Duration>,
    resident: Option<u64>,
    virtual_memory: Option<u64>,
    open_files: Option<u64>,
    open_files_limit: Option<u64>,
}

impl Usage {
    pub(crate) fn now() -> Self {
        let file = |name: &str| fs::read_to_string(format!("/proc/self/{name}")).unwrap_or_default();
        let status = file("status");
        let files = fs::read_dir("/proc/self/fd").map(|entries| entries.count() as u64);
        Self {
            cpu: cpu(&file("stat")),
            resident: kilobytes(&status, "VmRSS:"),
            virtual_memory: kilobytes(&status, "VmSize:"),
            // One of them is the folder that is being read.
            open_files: files.ok().map(|count| count.saturating_sub(1)),
            open_files_limit: open_files_limit(&file("limits")),
        }
    }

    /// In the Prometheus text format; `started` is when the process began, since the Unix epoch.
    pub(crate) fn render(&self, started: Duration) -> String {
        let mut text = String::new();
        let mut metric = |name: &str, kind: &str, help: &str, value: Option<String>| {
            if let Some(value) = value {
                // Writing to a String cannot fail.
                write!(text, "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}\n").ok();
            }
        };
        let seconds = |time: Duration| format!("{}.{:02}", time.as_secs(), time.subsec_millis() / 10);
        let number = |value: Option<u64>| value.map(|value| value.to_string());
        metric("process_cpu_seconds_total", "counter", "Processor time used, in seconds.", self.cpu.map(seconds));
        metric("process_resident_memory_bytes", "gauge", "Resident memory in bytes.", number(self.resident));
        metric("process_virtual_memory_bytes", "gauge", "Virtual memory in bytes.", number(self.virtual_memory));
        metric("process_open_fds", "gauge", "Open file descriptors.", number(self.open_files));
        metric("process_max_fds", "gauge", "How many there may be.", number(self.open_files_limit));
        let help = "When the process began, in seconds since the Unix epoch.";
        metric("process_start_time_seconds", "gauge", help, Some(seconds(started)));
        text
    }
}

/// Lets the process open as many files as it may, and warns when that is too few for `connections`: each may need one towards its
/// client and one towards a service. The usual limit of 1024 is there for programs that use `select`.
pub(crate) fn raise_open_files(connections: usize) {
    let limit = getrlimit(Resource::Nofile);
    if limit.current < limit.maximum || limit.current.is_some() && limit.maximum.is_none() {
        let raised = Rlimit { current: limit.maximum.or(Some(ENOUGH_FILES)), maximum: limit.maximum };
        if let Err(error) = setrlimit(Resource::Nofile, raised) {
            tracing::warn!(%error, "the limit of open files could not be raised");
        }
    }
    let needed = 2 * connections as u64;
    if let Some(current) = getrlimit(Resource::Nofile).current.filter(|current| *current < needed) {
        tracing::warn!(limit = current, needed, "fewer files may be open than `server.limits.connections` needs");
    }
}

/// Where the system sets no limit at all.
const ENOUGH_FILES: u64 = 1 << 20;

/// The 14th and 15th field of `/proc/self/stat`. The second is the program's name and may hold anything, so fields are counted from
/// its closing parenthesis.
fn cpu(stat: &str) -> Option<Duration> {
    let (_, rest) = stat.rsplit_once(") ")?;
    let mut fields = rest.split(' ').skip(11).map(str::parse::<u64>);
    let ticks = fields.next()?.ok()? + fields.next()?.ok()?;
    Some(Duration::from_millis(ticks * 1000 / TICKS))
}

fn kilobytes(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    Some(line.trim().strip_suffix(" kB")?.parse::<u64>().ok()? * 1024)
}

fn open_files_limit(limits: &str) -> Option<u64> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_system_s_files_are_understood() {
        let stat = "7 (a) b (c) S 1 7 7 0 -1 4194304 1 0 0 0 250 25 0 0 20 0 3 0 100 0 0";
        assert_eq!(cpu(stat), Some(Duration::from_millis(2_750)));
        assert_eq!(kilobytes("VmSize:\t  20 kB\nVmRSS:\t   12 kB\n", "VmRSS:"), Some(12 * 1024));
        assert_eq!(
            open_files_limit("Limit  Soft  Hard\nMax open files            1024       4096      files\n"),
            Some(1024)
        );
        assert_eq!((cpu(""), kilobytes("", "VmRSS:"), open_files_limit("")), (None, None, None));
    }

    #[test]
    fn what_is_not_known_is_not_told() {
        let usage = Usage { cpu: Some(Duration::from_millis(2_750)), ..Usage::default() };
        assert_eq!(
            usage.render(Duration::from_secs(1_000)),
            "# HELP process_cpu_seconds_total Processor time used, in seconds.\n\
             # TYPE process_cpu_seconds_total counter\n\
             process_cpu_seconds_total 2.75\n\
             # HELP process_start_time_seconds When the process began, in seconds since the Unix epoch.\n\
             # TYPE process_start_time_seconds gauge\n\
             process_start_time_seconds 1000.00\n"
        );
    }
}
