//! The files in which registrations outlive a restart. A thread of its own writes them, so that neither requests nor operators
//! wait for a disk.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use serde_json::{Map, Value};
use tidegate_config::config::{Discovery, Endpoint, RegistryDiscovery};
use tidegate_config::{Config, endpoint_list};
use tidegate_proxy::{Registration, Upstreams};

/// How often to look for what changed by time alone.
const INTERVAL: Duration = Duration::from_secs(1);

/// What is known of the files.
pub(crate) struct Registry {
    upstreams: Arc<Upstreams>,
    state: Mutex<State>,
    wake: Condvar,
}

#[derive(Default)]
struct State {
    files: BTreeMap<PathBuf, Kept>,
    /// Something changed that need not wait for the interval.
    nudged: bool,
    ending: bool,
}

/// How a file fares.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Kept {
    /// The revision of the registrations that are in it.
    pub(crate) revision: Option<u64>,
    /// Why it could not be read or written.
    pub(crate) trouble: Option<String>,
}

impl Registry {
    pub(crate) fn new(upstreams: Arc<Upstreams>) -> Arc<Self> {
        Arc::new(Self { upstreams, state: Mutex::default(), wake: Condvar::new() })
    }

    /// Reads the files of registries that are new. To be called before `config` is put to use.
    pub(crate) fn load(&self, config: &Config) {
        for service in config.services.values() {
            let Some(Discovery::Registry(registry)) = &service.discovery else { continue };
            if self.upstreams.has_registry(&service.name) {
                continue;
            }
            let kept = match read(&registry.file) {
                Ok(endpoints) => {
                    tracing::info!(service = &*service.name, endpoints = endpoints.len(), "registrations restored");
                    self.upstreams.restore(&service.name, endpoints);
                    Kept { revision: Some(0), trouble: None }
                }
                Err(trouble) => {
                    let file = registry.file.display().to_string();
                    tracing::warn!(service = &*service.name, file, "registrations cannot be restored: {trouble}");
                    Kept { revision: Some(0), trouble: Some(trouble) }
                }
            };
            self.state().files.insert(registry.file.clone(), kept);
        }
    }

    /// Registrations have changed.
    pub(crate) fn nudge(&self) {
        self.state().nudged = true;
        self.wake.notify_all();
    }

    /// How a file fares.
    pub(crate) fn kept(&self, file: &Path) -> Kept {
        self.state().files.get(file).cloned().unwrap_or_default()
    }

    /// Whether everything that is registered with the service is in its file.
    pub(crate) fn is_saved(&self, service: &str) -> bool {
        let registries = self.upstreams.registries_in_use();
        let of_service = registries.iter().find(|(name, ..)| **name == *service);
        of_service.is_some_and(|(_, registry, revision)| self.kept(&registry.file).revision == Some(*revision))
    }

    /// Writes what changed since it was written last.
    pub(crate) fn write_changed(&self) {
        for (service, RegistryDiscovery { file, .. }, revision) in self.upstreams.registries_in_use() {
            let before = self.kept(&file);
            if before.revision == Some(revision) {
                continue;
            }
            // A service that is gone meanwhile needs no file.
            let Ok(registrations) = self.upstreams.registrations(&service) else { continue };
            let result = write(&file, &registrations);
            tell(&service, &file, (&before, &result));
            let kept = match result {
                Ok(()) => Kept { revision: Some(revision), trouble: None },
                Err(error) => Kept { trouble: Some(error.to_string()), ..before },
            };
            self.state().files.insert(file, kept);
        }
    }

    /// Until the end.
    fn write_always(&self) {
        let mut ending = false;
        while !ending {
            let state = self.state();
            let idle = |state: &mut State| !state.nudged && !state.ending;
            let (mut state, _) =
                self.wake.wait_timeout_while(state, INTERVAL, idle).unwrap_or_else(PoisonError::into_inner);
            state.nudged = false;
            ending = state.ending;
            drop(state);
            self.write_changed();
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The thread that writes the files.
pub(crate) struct Writer {
    registry: Arc<Registry>,
    thread: thread::JoinHandle<()>,
}

impl Writer {
    pub(crate) fn start(registry: &Arc<Registry>) -> io::Result<Self> {
        let writing = Arc::clone(registry);
        let thread = thread::Builder::new().name("registry".into()).spawn(move || writing.write_always())?;
        Ok(Self { registry: Arc::clone(registry), thread })
    }

    /// Writes what is still to be written, and ends.
    pub(crate) fn finish(self) {
        self.registry.state().ending = true;
        self.registry.wake.notify_all();
        self.thread.join().ok();
    }
}

/// An endpoint in the words of a configuration.
pub(crate) fn written(endpoint: &Endpoint) -> Map<String, Value> {
    let scheme = if endpoint.tls { "https" } else { "http" };
    let mut words = Map::new();
    words.insert("url".into(), format!("{scheme}://{}", endpoint.authority).into());
    words.insert("weight".into(), endpoint.weight.into());
    if let Some(zone) = &endpoint.zone {
        words.insert("zone".into(), (&**zone).into());
    }
    if endpoint.priority > 0 {
        words.insert("priority".into(), endpoint.priority.into());
    }
    words
}

/// A file that is not there yet is empty.
fn read(file: &Path) -> Result<Vec<Endpoint>, String> {
    match fs::read_to_string(file) {
        Ok(text) => endpoint_list(&text),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error.to_string()),
    }
}

/// Logs the first failure of a row, and the end of it.
fn tell(service: &str, file: &Path, (before, result): (&Kept, &io::Result<()>)) {
    let file = file.display().to_string();
    match result {
        Ok(()) if before.trouble.is_some() => tracing::info!(service, file, "registrations can be saved"),
        Ok(()) => {}
        Err(error) if before.trouble == Some(error.to_string()) => {}
        Err(error) => tracing::warn!(service, file, "registrations cannot be saved: {error}"),
    }
}

/// Whatever happens meanwhile, the file is the old one or the new one.
fn write(file: &Path, registrations: &[Registration]) -> io::Result<()> {
    let list: Value = registrations.iter().map(|one| Value::Object(written(&one.endpoint))).collect();
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::create_dir_all(folder)?;
    let mut name = file.as_os_str().to_owned();
    name.push(".tmp");
    let mut new = File::create(&name)?;
    new.write_all(format!("{list:#}\n").as_bytes())?;
    new.sync_all()?;
    fs::rename(&name, file)?;
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use tidegate_config::one_endpoint;
    use tidegate_core::clock::{Clock, ManualClock};
    use tidegate_core::policy::{NoPolicies, Rules};
    use tidegate_proxy::Solo;
    use tidegate_proxy::net::Net;
    use tidegate_proxy::telemetry::{LogWriter, Metrics};

    use super::*;

    /// A folder of the test's own.
    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("tidegate-registry-{}-{name}", std::process::id()));
            fs::create_dir_all(&path).expect("a folder");
            Self(path)
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            fs::remove_dir_all(&self.0).ok();
        }
    }

    /// A gateway whose service `app` keeps its registrations in `file`.
    async fn tell(file: &Path, story: impl FnOnce(&Upstreams, &Registry)) {
        let yaml = format!(
            "services: {{ app: {{ discovery: {{ registry: {{ ttl: 10s, file: \"{}\" }} }} }} }}\n\
             routes: [{{ match: {{ path_prefix: / }}, service: app }}]",
            file.display()
        );
        let config = Arc::new(tidegate_config::from_yaml(&yaml).expect("valid").config);
        let clock = Clock::Manual(ManualClock::new(Duration::from_secs(1_000)));
        let solo = async {
            let metrics = Metrics::new();
            let log = LogWriter::start(None, Arc::clone(metrics.log())).expect("a thread");
            // The file is read before the configuration is put to use, as at a reload that brings the registry.
            let before = tidegate_config::from_yaml("routes: [{ match: { path: / }, respond: { status: 200 } }]");
            let before = Arc::new(before.expect("valid").config);
            let solo = Solo::new(&before, &Rules::new(&NoPolicies), clock, Net::System, (metrics, log.sender()))
                .expect("a gateway");
            let registry = Registry::new(Arc::clone(solo.upstreams()));
            registry.load(&config);
            solo.reload(&config).expect("a reload");
            story(solo.upstreams(), &registry);
        };
        tokio::task::LocalSet::new().run_until(solo).await;
    }

    fn told(upstreams: &Upstreams) -> Vec<String> {
        let registrations = upstreams.registrations("app").expect("a registry");
        registrations.iter().map(|Registration { endpoint, .. }| Value::Object(written(endpoint)).to_string()).collect()
    }

    #[tokio::test]
    async fn what_is_written_is_read_again() {
        let folder = Folder::new("again");
        let file = folder.0.join("deep/app.json");
        let full = r#"{"priority":1,"url":"https://b.test:8443","weight":3,"zone":"z"}"#;
        tell(&file, |upstreams, registry| {
            registry.write_changed();
            assert!(!file.exists(), "nothing to say");
            upstreams.register("app", one_endpoint("http://a.test").expect("an endpoint")).expect("registered");
            upstreams.register("app", one_endpoint(full).expect("an endpoint")).expect("registered");
            assert!(!registry.is_saved("app"));
            registry.write_changed();
            assert!(registry.is_saved("app"));
        })
        .await;
        tell(&file, |upstreams, registry| {
            assert_eq!(told(upstreams), [r#"{"url":"http://a.test","weight":1}"#, full]);
            assert!(registry.is_saved("app"));
        })
        .await;
        assert_eq!(fs::read_dir(file.parent().expect("a folder")).expect("it is there").count(), 1, "no rests");
    }

    #[tokio::test]
    async fn a_file_that_cannot_be_read_is_named_and_stays_until_somebody_registers() {
        let folder = Folder::new("broken");
        let file = folder.0.join("app.json");
        fs::write(&file, "[{ \"url\": 7 }]").expect("written");
        tell(&file, |upstreams, registry| {
            assert!(registry.kept(&file).trouble.is_some());
            registry.write_changed();
            assert_eq!(fs::read_to_string(&file).expect("it is there"), "[{ \"url\": 7 }]");
            upstreams.register("app", one_endpoint("http://a.test").expect("an endpoint")).expect("registered");
            registry.write_changed();
            assert_eq!(registry.kept(&file), Kept { revision: Some(1), trouble: None });
        })
        .await;
    }

    #[tokio::test]
    async fn a_file_that_cannot_be_written_is_tried_again() {
        let folder = Folder::new("full");
        let in_the_way = folder.0.join("file");
        fs::write(&in_the_way, "").expect("written");
        let file = in_the_way.join("app.json");
        tell(&file, |upstreams, registry| {
            upstreams.register("app", one_endpoint("http://a.test").expect("an endpoint")).expect("registered");
            registry.write_changed();
            assert!(registry.kept(&file).trouble.is_some() && !registry.is_saved("app"));
            fs::remove_file(&in_the_way).expect("removed");
            registry.write_changed();
            assert!(registry.is_saved("app"));
        })
        .await;
    }
}
