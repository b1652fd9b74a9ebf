//! A real OpenID Connect provider, and a browser for it: curl with its cookies. `scripts/test` installs both.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use crate::folder::Folder;
use crate::redis::own_address;
use crate::registries::Server;
use crate::tools::curl;

/// A provider whose users, clients and tokens are gone when it ends: see `e2e/provider/provider.mjs`.
pub struct Provider {
    address: SocketAddr,
    seconds: u32,
    server: Option<Server>,
}

impl Provider {
    /// Starts one that gives access for an hour.
    ///
    /// # Panics
    /// If it is missing or does not start.
    pub fn run() -> Self {
        let mut provider = Self::down(3600);
        provider.start();
        provider
    }

    /// One that gives access for so many seconds, and is not started yet.
    pub fn down(seconds: u32) -> Self {
        Self { address: own_address(), seconds, server: None }
    }

    /// Who it is.
    pub fn issuer(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Starts it at its address, with nothing that it knew before.
    ///
    /// # Panics
    /// If it is missing or does not start.
    pub fn start(&mut self) {
        let own = Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut command = Command::new("node");
        command.arg(own.join("provider/provider.mjs")).arg(own.join("../target/node")).args([
            self.address.ip().to_string(),
            self.address.port().to_string(),
            self.seconds.to_string(),
        ]);
        self.server = Some(Server::start(&mut command, "listening"));
    }

    /// A token that a program has got for itself, for the scope `orders:read`. The client `gateway` may ask about it.
    ///
    /// # Panics
    /// If there is none.
    pub fn token(&self) -> String {
        let data = "grant_type=client_credentials&scope=orders:read";
        let url = format!("{}/token", self.issuer());
        let said = curl(&["--user", "machine:a-secret-of-the-machine", "--data", data, &url]);
        let said: serde_json::Value = serde_json::from_str(&said).expect("JSON");
        said.get("access_token")
            .and_then(serde_json::Value::as_str)
            .unwrap_or_else(|| panic!("no token: {said}"))
            .to_owned()
    }

    /// Ends it as `kill -9` does.
    pub fn kill(&mut self) {
        self.server = None;
    }
}

/// Somebody's browser: curl, with cookies that it keeps and sends as RFC 6265 says.
pub struct Browser {
    folder: Folder,
    arguments: Vec<String>,
}

/// What a browser shows in the end.
#[derive(Debug)]
pub struct Shown {
    /// Of the last reply.
    pub status: u16,
    /// Where that came from.
    pub url: String,
    /// The heads of all replies on the way.
    pub heads: String,
    /// Of the last reply.
    pub body: String,
}

impl Browser {
    /// One without a cookie.
    pub fn new() -> Self {
        Self::with(&[])
    }

    /// The same, that is always given these arguments.
    pub fn with(arguments: &[&str]) -> Self {
        Self { folder: Folder::new(), arguments: arguments.iter().map(ToString::to_string).collect() }
    }

    /// Opens a page, and goes wherever it is sent.
    pub fn open(&self, url: &str) -> Shown {
        self.ask(url, &["--location", "--max-redirs", "20", "--header", "Accept: text/html"])
    }

    /// Asks for something with these arguments of curl.
    ///
    /// # Panics
    /// If curl fails.
    pub fn ask(&self, url: &str, arguments: &[&str]) -> Shown {
        let file = |name: &str| self.folder.path().join(name).display().to_string();
        let (jar, heads, end) = (file("jar"), file("heads"), "\n%{http_code} %{url_effective}");
        let usual = ["--cookie", &jar, "--cookie-jar", &jar, "--dump-header", &heads, "--write-out", end];
        let own: Vec<_> = self.arguments.iter().map(String::as_str).collect();
        let said = curl(&[&usual[..], &own, arguments, &[url]].concat());
        let (body, end) = said.rsplit_once('\n').expect("what was asked for");
        let (status, url) = end.split_once(' ').expect("a status and a URL");
        let heads = std::fs::read_to_string(heads).expect("the heads");
        Shown { status: status.parse().expect("a status"), url: url.to_owned(), heads, body: body.to_owned() }
    }

    /// The names and values of all cookies that a host may have.
    pub fn cookies(&self, host: &str) -> Vec<(String, String)> {
        let jar = std::fs::read_to_string(self.folder.path().join("jar")).unwrap_or_default();
        let cookie = |line: &str| {
            let parts: Vec<_> = line.trim_start_matches("#HttpOnly_").split('\t').collect();
            let [domain, _, _, _, _, name, value] = parts[..] else { return None };
            (domain == host).then(|| (name.to_owned(), value.to_owned()))
        };
        jar.lines().filter_map(cookie).collect()
    }
}

impl Default for Browser {
    fn default() -> Self {
        Self::new()
    }
}

impl Shown {
    /// The last URL to which the browser was sent.
    pub fn sent_to(&self) -> Option<&str> {
        self.heads.lines().rev().find_map(|line| {
            let (name, value) = line.split_once(": ")?;
            name.eq_ignore_ascii_case("location").then(|| value.trim())
        })
    }
}
