//! The programs that are compared, how each is started and where it listens.

use std::{
    fs,
    io::{Read, Write},
    net::TcpStream,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};

use super::{
    machine,
    process::{self, Background},
};

pub(crate) const BACKEND: &str = "127.0.0.1:19000";
pub(crate) const HTTP1: &str = "127.0.0.1:18000";
pub(crate) const TLS: &str = "127.0.0.1:18443";

/// Where a subject listens. Two can work at the same time.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    First,
    /// On ports of its own.
    Second,
}

impl Place {
    /// A configuration or an address, with the ports of this place.
    fn ports(self, text: &str) -> String {
        const WRITTEN: [&str; 3] = ["127.0.0.1:", "port: ", "port_value: "];
        match self {
            Self::First => text.to_owned(),
            Self::Second => WRITTEN
                .iter()
                .fold(text.to_owned(), |text, before| text.replace(&format!("{before}18"), &format!("{before}28"))),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::First => "first",
            Self::Second => "second",
        }
    }
}

/// Which marked lines of a configuration count.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    Plain,
    /// With the access log.
    Log,
    /// With an API key, roles and a limit for each client, as far as the subject can.
    Limited,
    /// With a signed token in the place of the key.
    Jwt,
}

impl Mode {
    pub(crate) const ALL: [Self; 4] = [Self::Plain, Self::Log, Self::Limited, Self::Jwt];

    pub(super) fn marks(self) -> &'static [&'static str] {
        match self {
            Self::Plain => &["#plain "],
            Self::Log => &["#log "],
            Self::Limited => &["#plain ", "#guarded ", "#limited "],
            Self::Jwt => &["#plain ", "#guarded ", "#jwt "],
        }
    }
}

pub(crate) fn names(kinds: &[Kind]) -> Vec<&'static str> {
    kinds.iter().map(|kind| kind.name).collect()
}

pub(crate) fn named(kinds: &'static [Kind], name: &str) -> Result<&'static Kind> {
    kinds.iter().find(|kind| kind.name == name).with_context(|| format!("{name} is no subject"))
}

/// What is known beforehand about a subject.
pub(crate) struct Kind {
    pub(crate) name: &'static str,
    pub(crate) program: &'static str,
    /// In the repository; a template, see [`render`].
    pub(crate) config: &'static str,
    /// Where it speaks HTTP/2 without TLS.
    pub(crate) http2: &'static str,
    /// `CONFIG` and `DIR` stand for the rendered file and the folder of the run.
    pub(crate) arguments: &'static [&'static str],
    pub(crate) version: &'static str,
    /// Where it runs.
    pub(crate) cpus: &'static str,
    /// Its own mark of lines in the template; may be empty.
    pub(crate) mark: &'static str,
}

/// Those of the bench: plain proxies.
pub(crate) const PROXIES: &[Kind] = &[
    Kind {
        name: "tidegate",
        program: "tidegate",
        config: "bench/tidegate.yaml",
        http2: HTTP1,
        arguments: &["run", "CONFIG"],
        version: "--version",
        cpus: process::PROXY,
        mark: "",
    },
    Kind {
        name: "nginx",
        program: "nginx",
        config: "bench/peers/nginx.conf",
        http2: "127.0.0.1:18001",
        arguments: &["-p", "DIR", "-c", "CONFIG"],
        version: "-v",
        cpus: process::PROXY,
        mark: "",
    },
    Kind {
        name: "haproxy",
        program: "haproxy",
        config: "bench/peers/haproxy.cfg",
        http2: "127.0.0.1:18001",
        arguments: &["-db", "-f", "CONFIG"],
        version: "-v",
        cpus: process::PROXY,
        mark: "",
    },
    Kind {
        name: "envoy",
        program: "envoy",
        config: "bench/peers/envoy.yaml",
        http2: HTTP1,
        arguments: &["-c", "CONFIG", "--concurrency", "1", "--log-level", "off", "--disable-hot-restart"],
        version: "--version",
        cpus: process::PROXY,
        mark: "",
    },
];

/// A subject that is there to be started.
pub(crate) struct Subject {
    kind: &'static Kind,
    program: PathBuf,
    root: PathBuf,
    folder: PathBuf,
    place: Place,
}

impl Subject {
    pub(crate) fn new(kind: &'static Kind, program: PathBuf, root: &Path, folder: &Path) -> Self {
        Self { kind, program, root: root.to_path_buf(), folder: folder.to_path_buf(), place: Place::First }
    }

    pub(super) fn at(self, place: Place) -> Self {
        Self { place, ..self }
    }

    pub(crate) fn name(&self) -> &'static str {
        self.kind.name
    }

    pub(super) fn http1(&self) -> String {
        self.place.ports(HTTP1)
    }

    pub(super) fn http2(&self) -> String {
        self.place.ports(self.kind.http2)
    }

    pub(super) fn tls(&self) -> String {
        self.place.ports(TLS)
    }

    /// Its name and the version that it names itself.
    pub(crate) fn description(&self) -> String {
        let output = Command::new(&self.program).arg(self.kind.version).output();
        let printed = output.map(|output| [output.stdout, output.stderr].concat()).unwrap_or_default();
        let printed = String::from_utf8_lossy(&printed);
        let words = printed.split(|character: char| character.is_whitespace() || character == '/');
        let mut words = words.map(|word| word.trim_start_matches('v'));
        let version = words.find(|word| word.starts_with(|first: char| first.is_ascii_digit()) && word.contains('.'));
        let version = version.map(|version| version.split('-').next().unwrap_or(version));
        format!("{} {}", self.name(), version.unwrap_or("of unknown version"))
    }

    /// Returns when it answers requests with these fields.
    pub(crate) fn start(&self, mode: Mode, fields: &[String]) -> Result<Running> {
        let (running, _) = self.start_in(mode, fields)?;
        machine::pause(300);
        Ok(running)
    }

    /// Also tells how long it took from exec to the first answer.
    pub(crate) fn start_and_time(&self) -> Result<(Running, Duration)> {
        self.start_in(Mode::Plain, &[])
    }

    fn start_in(&self, mode: Mode, fields: &[String]) -> Result<(Running, Duration)> {
        let address = self.http1();
        if answers(&address, fields) {
            bail!("somebody else listens on {address}");
        }
        let mut command = process::pinned(self.kind.cpus, &self.program);
        command.args(self.arguments(mode)?).current_dir(&self.folder);
        let began = Instant::now();
        let output = self.folder.join(format!("{}-{}.out", self.place.name(), self.name()));
        let mut background = Background::start(&mut command, &output)?;
        while !answers(&address, fields) {
            background.expect_alive().with_context(|| printed(&output))?;
            if began.elapsed() > Duration::from_secs(15) {
                bail!("{} does not answer; it printed: {}", self.name(), printed(&output));
            }
            std::thread::sleep(Duration::from_micros(200));
        }
        Ok((Running { background, address }, began.elapsed()))
    }

    fn arguments(&self, mode: Mode) -> Result<Vec<String>> {
        let name = Path::new(self.kind.config).file_name().context("a configuration is a file")?;
        let file = self.folder.join(format!("{}-{}", self.place.name(), name.to_string_lossy()));
        let template = fs::read_to_string(self.root.join(self.kind.config))?;
        let folder = self.folder.to_string_lossy();
        let config = render(&template, &[mode.marks(), &[self.kind.mark]].concat(), &folder);
        fs::write(&file, self.place.ports(&config))?;
        let arguments = self.kind.arguments.iter().map(|argument| match *argument {
            "CONFIG" => file.to_string_lossy().into_owned(),
            "DIR" => folder.clone().into_owned(),
            argument => argument.to_owned(),
        });
        Ok(arguments.collect())
    }
}

/// A subject at work.
pub(crate) struct Running {
    background: Background,
    address: String,
}

impl Running {
    pub(crate) fn cpu_seconds(&self) -> f64 {
        machine::cpu_seconds(self.background.id())
    }

    pub(crate) fn resident_mib(&self) -> f64 {
        machine::resident_mib(self.background.id())
    }

    pub(crate) fn peak_mib(&self) -> f64 {
        machine::peak_mib(self.background.id())
    }

    /// Returns when its port is free again.
    pub(crate) fn stop(self) -> Result<()> {
        self.background.stop()?;
        for _ in 0..100 {
            if TcpStream::connect(&self.address).is_err() {
                return Ok(());
            }
            machine::pause(20);
        }
        bail!("{} is still in use after the process has ended", self.address)
    }
}

/// Uncomments the lines that have one of these marks, and fills in the folder.
fn render(template: &str, marks: &[&str], folder: &str) -> String {
    let marks = marks.iter().filter(|mark| !mark.is_empty());
    marks.fold(template.to_owned(), |text, mark| text.replace(mark, "")).replace("@DIR@", folder)
}

fn request(fields: &[String]) -> String {
    let mut request = "GET / HTTP/1.1\r\nHost: start\r\nConnection: close\r\n".to_owned();
    request.extend(fields.iter().flat_map(|field| [field, "\r\n"]));
    request + "\r\n"
}

/// Whether a request with these fields, that goes through to the backend, is answered there.
fn answers(address: &str, fields: &[String]) -> bool {
    let Ok(mut socket) = TcpStream::connect(address) else { return false };
    let mut reply = Vec::new();
    let asked = socket
        .set_read_timeout(Some(Duration::from_secs(2)))
        .and_then(|()| socket.write_all(request(fields).as_bytes()));
    asked.and_then(|()| socket.read_to_end(&mut reply)).is_ok() && reply.starts_with(b"HTTP/1.1 200")
}

fn printed(output: &Path) -> String {
    fs::read_to_string(output).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::{Mode, Place, render};

    #[test]
    fn the_second_place_has_ports_of_its_own_and_the_same_backend() {
        let ports = |text: &str| Place::Second.ports(text);
        assert_eq!(
            ports("bind 127.0.0.1:18443; server 127.0.0.1:19000"),
            "bind 127.0.0.1:28443; server 127.0.0.1:19000"
        );
        assert_eq!(
            ports("{ port: 18900, port_value: 18000, rate: 18 }"),
            "{ port: 28900, port_value: 28000, rate: 18 }"
        );
    }

    #[test]
    fn a_template_keeps_the_lines_of_its_mode() {
        let template = "a @DIR@\n  #log b\n  #plain c\n  #guarded d\n";
        let rendered = |mode: Mode| render(template, mode.marks(), "/x");
        assert_eq!(rendered(Mode::Plain), "a /x\n  #log b\n  c\n  #guarded d\n");
        assert_eq!(rendered(Mode::Log), "a /x\n  b\n  #plain c\n  #guarded d\n");
        assert_eq!(rendered(Mode::Jwt), "a /x\n  #log b\n  c\n  d\n");
    }
}
