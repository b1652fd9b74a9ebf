//! The eight endpoints of a soak: one process each, at fixed ports.

use std::{
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};

use super::part::{Event, What};
use crate::bench::{
    machine,
    process::{self, Background},
};

pub(super) const COUNT: usize = 8;
/// The port of the first; the configurations of all subjects name them.
const PORT: u16 = 19301;
/// So that a well one takes 3 to 8 ms.
const LATENCY: &str = "5";

/// They end with their handle.
pub(super) struct Endpoints {
    folder: PathBuf,
    program: PathBuf,
    all: Vec<Endpoint>,
}

struct Endpoint {
    port: u16,
    mode: &'static str,
    process: Option<Background>,
}

impl Endpoints {
    /// Starts them all, well.
    pub(super) fn start(programs: &Path, folder: &Path) -> Result<Self> {
        let endpoint = |port| Endpoint { port, mode: "well", process: None };
        let all = (PORT..).take(COUNT).map(endpoint).collect();
        let mut endpoints = Self { folder: folder.to_path_buf(), program: programs.join("chaos"), all };
        for endpoint in &mut endpoints.all {
            endpoint.start(&endpoints.program, &endpoints.folder)?;
        }
        Ok(endpoints)
    }

    /// Those that are to be in another mode begin anew in it.
    pub(super) fn turn(&mut self, modes: &[&'static str]) -> Result<()> {
        for (endpoint, mode) in self.all.iter_mut().zip(modes) {
            if endpoint.mode != *mode {
                endpoint.mode = mode;
                endpoint.restart(&self.program, &self.folder)?;
            }
        }
        Ok(())
    }

    pub(super) fn suffer(&mut self, event: Event) -> Result<()> {
        let endpoint = self.all.get_mut(event.endpoint).context("there are eight endpoints")?;
        match event.what {
            What::Kill => endpoint.process = None,
            What::Start => endpoint.start(&self.program, &self.folder)?,
            What::Restart => endpoint.restart(&self.program, &self.folder)?,
        }
        Ok(())
    }

    /// How many requests they have seen, those that live.
    pub(super) fn count(&self) -> Result<u64> {
        let living = self.all.iter().filter(|endpoint| endpoint.process.is_some());
        living.map(|endpoint| count(endpoint.port)).sum()
    }
}

impl Endpoint {
    fn restart(&mut self, program: &Path, folder: &Path) -> Result<()> {
        if let Some(process) = self.process.take() {
            process.stop()?;
        }
        self.start(program, folder)
    }

    /// Returns when it listens.
    fn start(&mut self, program: &Path, folder: &Path) -> Result<()> {
        let port = self.port.to_string();
        ensure!(TcpStream::connect(address(self.port)).is_err(), "somebody else listens on port {port}");
        let mut command = process::pinned(process::LOAD, program);
        command.args(["--port", &port, "--mode", self.mode, "--latency-ms", LATENCY, "--seed", &port]);
        let mut process = Background::start(&mut command, &folder.join(format!("endpoint-{port}.out")))?;
        for _ in 0..500 {
            if TcpStream::connect(address(self.port)).is_ok() {
                process.expect_alive()?;
                self.process = Some(process);
                return Ok(());
            }
            machine::pause(2);
        }
        bail!("the endpoint at port {port} does not listen")
    }
}

fn address(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

fn count(port: u16) -> Result<u64> {
    let mut socket = TcpStream::connect(address(port))?;
    socket.set_read_timeout(Some(Duration::from_secs(5)))?;
    socket.write_all(b"GET /__count HTTP/1.1\r\nHost: endpoint\r\n\r\n")?;
    let mut reply = String::new();
    socket.read_to_string(&mut reply)?;
    let (_, body) = reply.split_once("\r\n\r\n").context("a reply has a body")?;
    Ok(body.trim().parse()?)
}
