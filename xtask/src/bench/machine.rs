//! What the kernel says about the machine and its processes.

use std::{
    fs,
    path::PathBuf,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};

/// Ticks in a second in `/proc`: fixed for programs, whatever the kernel uses inside.
const TICKS: f64 = 100.0;

pub(crate) fn cpus() -> Result<usize> {
    Ok(thread::available_parallelism()?.get())
}

/// One line about where and when the numbers were taken.
pub(crate) fn facts() -> Result<String> {
    let cpu = fs::read_to_string("/proc/cpuinfo")?;
    let model = cpu.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or("unknown");
    let model = model.trim_start_matches(['\t', ' ', ':']);
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease")?;
    let date = Command::new("date").args(["-u", "+%Y-%m-%d %H:%M UTC"]).output()?;
    let date = String::from_utf8(date.stdout)?;
    Ok(format!("{}; {} CPUs, {model}; Linux {}; loopback", date.trim(), cpus()?, kernel.trim()))
}

/// How much some CPUs have worked since a moment.
pub(crate) struct Cores {
    cpus: &'static str,
    idle: f64,
    taken: Instant,
}

impl Cores {
    /// `cpus` as `0` or `0,1`.
    pub(crate) fn now(cpus: &'static str) -> Result<Self> {
        Ok(Self { cpus, idle: idle_seconds(cpus)?, taken: Instant::now() })
    }

    /// By the clock.
    fn elapsed(&self) -> f64 {
        self.taken.elapsed().as_secs_f64()
    }

    /// The share of their time that they worked for others than those who have `used` so many seconds.
    pub(crate) fn foreign(&self, used: f64) -> Result<f64> {
        let available = listed(self.cpus).map(|_| self.elapsed()).sum::<f64>();
        let idle = idle_seconds(self.cpus)? - self.idle;
        Ok((available - idle - used).max(0.0) / available)
    }
}

/// The numbers of the CPUs in `0,1`.
fn listed(cpus: &'static str) -> impl Iterator<Item = &'static str> {
    cpus.split(',')
}

fn idle_seconds(cpus: &'static str) -> Result<f64> {
    let text = fs::read_to_string("/proc/stat")?;
    listed(cpus).map(|cpu| idle_seconds_of(cpu, &text)).sum()
}

/// Idle and waiting for disks. The kernel measures these; all else it guesses by what runs when its clock ticks, and load at a fixed
/// rate may tick alike.
fn idle_seconds_of(cpu: &str, stat: &str) -> Result<f64> {
    let name = format!("cpu{cpu} ");
    let line = stat.lines().find_map(|line| line.strip_prefix(&name));
    let line = line.with_context(|| format!("/proc/stat knows no CPU {cpu}"))?;
    let idle: f64 = line.split_whitespace().skip(3).take(2).filter_map(|word| word.parse::<f64>().ok()).sum();
    Ok(idle / TICKS)
}

/// CPU time of what this program has started and seen the end of, in seconds.
pub(crate) fn seconds_of_ended_children() -> Result<f64> {
    let stat = fs::read_to_string("/proc/self/stat")?;
    ticks(&stat, 13).map(|ticks| ticks / TICKS).context("/proc/self/stat has times of children")
}

/// CPU time of a process and all below it, in seconds.
pub(crate) fn cpu_seconds(process: u32) -> f64 {
    family(process).iter().filter_map(|id| cpu_ticks(*id)).sum::<f64>() / TICKS
}

fn cpu_ticks(process: u32) -> Option<f64> {
    ticks(&fs::read_to_string(proc(process, "stat")).ok()?, 11)
}

/// User and system time, which stand so many words behind the name. That comes second and may hold anything.
fn ticks(stat: &str, behind: usize) -> Option<f64> {
    let (_, words) = stat.rsplit_once(')')?;
    Some(words.split_whitespace().skip(behind).take(2).filter_map(|word| word.parse::<f64>().ok()).sum())
}

/// Resident memory of a process and all below it, in MiB.
pub(crate) fn resident_mib(process: u32) -> f64 {
    family(process).iter().filter_map(|id| kib(*id, "VmRSS:")).sum::<f64>() / 1024.0
}

/// The most that a process and all below it have had resident, in MiB.
pub(crate) fn peak_mib(process: u32) -> f64 {
    family(process).iter().filter_map(|id| kib(*id, "VmHWM:")).sum::<f64>() / 1024.0
}

fn kib(process: u32, what: &str) -> Option<f64> {
    let status = fs::read_to_string(proc(process, "status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(what))?;
    line.split_whitespace().next()?.parse().ok()
}

/// A process and everything that it has started.
pub(crate) fn family(process: u32) -> Vec<u32> {
    let mut found = vec![process];
    let children = fs::read_to_string(proc(process, &format!("task/{process}/children"))).unwrap_or_default();
    for child in children.split_whitespace().filter_map(|word| word.parse().ok()) {
        found.extend(family(child));
    }
    found
}

fn proc(process: u32, file: &str) -> PathBuf {
    PathBuf::from(format!("/proc/{process}/{file}"))
}

pub(crate) fn pause(milliseconds: u64) {
    thread::sleep(Duration::from_millis(milliseconds));
}
