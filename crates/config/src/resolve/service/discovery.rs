//! `discovery`: where endpoints come from that are not in the file.

use std::collections::BTreeMap;
use std::path;
use std::sync::Arc;

use crate::config::{
    ApiServer, ConsulDiscovery, Discovery, DnsDiscovery, DnsRecords, EtcdDiscovery, KubernetesDiscovery,
    RegistryDiscovery, Secret, Service, UpstreamTls,
};
use crate::file::{ConsulFile, DiscoveryFile, DnsFile, DnsRecordsFile, EtcdFile, KubernetesFile, RegistryFile};
use crate::problem::{Path, Problem};
use crate::resolve::Resolver;
use crate::resolve::files::Pem;
use crate::resolve::service::url::parse_url;
use crate::value::HostPattern;

impl Resolver<'_> {
    /// `service` is its name.
    pub(super) fn discovery(&mut self, file: DiscoveryFile, service: &str, path: &Path) -> Option<Discovery> {
        let keys = [
            ("dns", file.dns.is_some()),
            ("consul", file.consul.is_some()),
            ("etcd", file.etcd.is_some()),
            ("file", file.file.is_some()),
            ("kubernetes", file.kubernetes.is_some()),
            ("registry", file.registry.is_some()),
        ];
        self.one_of(path, &keys, "endpoints are found in one way");
        if let Some(dns) = file.dns {
            return self.dns(&dns, &path.join("dns")).map(Discovery::Dns);
        }
        if let Some(consul) = file.consul {
            return self.consul(consul, &path.join("consul")).map(Discovery::Consul);
        }
        if let Some(etcd) = file.etcd {
            return self.etcd(etcd, &path.join("etcd")).map(Discovery::Etcd);
        }
        if let Some(list) = file.file {
            let at = path.join("file");
            let name = self.text(&at, "path", list.path.as_deref(), "write `path: endpoints.json`")?;
            return Some(Discovery::File(self.document.folder(&at.join("path")).join(&*name)));
        }
        if let Some(kubernetes) = file.kubernetes {
            return self.kubernetes(kubernetes, &path.join("kubernetes")).map(Discovery::Kubernetes);
        }
        file.registry.map(|registry| Discovery::Registry(self.registry(&registry, service, &path.join("registry"))))
    }

    fn dns(&mut self, file: &DnsFile, path: &Path) -> Option<DnsDiscovery> {
        let records = match file.records {
            Some(DnsRecordsFile::A) => DnsRecords::A,
            Some(DnsRecordsFile::Aaaa) => DnsRecords::Aaaa,
            Some(DnsRecordsFile::Srv) => DnsRecords::Srv,
            Some(DnsRecordsFile::Addresses) | None => DnsRecords::Addresses,
        };
        let port = file.port.filter(|_| records != DnsRecords::Srv);
        if records != DnsRecords::Srv && port.is_none() {
            self.missing(path, "port", "write the port of the endpoints, or `type: srv` where the records have it");
        }
        if port == Some(0) {
            self.error(&path.join("port"), "ports are numbers from 1 to 65535");
        }
        let min_ttl = self.needed(&path.join("min_ttl"), file.min_ttl, 5);
        let name =
            self.text(path, "name", file.name.as_deref(), "write the name to look up: `name: search.internal`")?;
        match name.strip_suffix('.').unwrap_or(&name).parse::<HostPattern>() {
            Ok(HostPattern::Exact(_)) => {}
            Ok(HostPattern::Wildcard(_) | HostPattern::Any) => {
                self.error(&path.join("name"), format!("`{name}` is not a name that can be looked up"));
            }
            Err(invalid) => self.invalid(&path.join("name"), invalid),
        }
        let servers = file.servers.iter().map(|server| server.0).collect();
        Some(DnsDiscovery { name, port, records, min_ttl, servers, tls: file.tls.unwrap_or(false) })
    }

    fn consul(&mut self, file: ConsulFile, path: &Path) -> Option<ConsulDiscovery> {
        let tls = self.upstream_tls(file.tls, &path.join("tls"));
        let address = self.text(path, "address", file.address.as_deref(), "write `address: http://127.0.0.1:8500`");
        let address = address.and_then(|url| self.api_server(&path.join("address"), &url, tls));
        let service = self.text(path, "service", file.service.as_deref(), "write the name of the service in Consul");
        let weight_from = self.text(path, "weight_from", file.weight_from.as_deref(), "write `weight_from: weight`");
        let cache = self.needed(&path.join("cache"), file.cache, 30);
        Some(ConsulDiscovery {
            address: address?,
            service: service?,
            tag: some_text(file.tag),
            passing: file.passing.unwrap_or(false),
            weight_from: weight_from?,
            cache,
            token: some_text(file.token).map(Secret),
            datacenter: some_text(file.datacenter),
            endpoint_tls: file.endpoint_tls.unwrap_or(false),
        })
    }

    fn etcd(&mut self, file: EtcdFile, path: &Path) -> Option<EtcdDiscovery> {
        let tls = self.upstream_tls(file.tls, &path.join("tls"));
        if file.addresses.is_empty() {
            self.missing(path, "addresses", "write `addresses: [\"http://127.0.0.1:2379\"]`");
        }
        let mut addresses = Vec::new();
        for (position, url) in file.addresses.iter().enumerate() {
            let at = self.item(&path.join("addresses"), position);
            addresses.extend(self.api_server(&at, url, tls.clone()));
        }
        let prefix =
            self.text(path, "prefix", file.prefix.as_deref(), "write where the keys begin: `prefix: /services/NAME/`");
        let user = match (some_text(file.user), some_text(file.password)) {
            (Some(user), Some(password)) => Some((user, Secret(password))),
            (None, None) => None,
            (Some(_), None) => {
                self.missing(path, "password", "a user has a password: `password: \"${ETCD_PASSWORD}\"`");
                None
            }
            (None, Some(_)) => {
                self.missing(path, "user", "say whose password it is");
                None
            }
        };
        Some(EtcdDiscovery { addresses, prefix: prefix?, user })
    }

    fn kubernetes(&mut self, file: KubernetesFile, path: &Path) -> Option<KubernetesDiscovery> {
        let service =
            self.text(path, "service", file.service.as_deref(), "write the name of the service in Kubernetes");
        let token = self.text(path, "token_file", file.token_file.as_deref(), "name the file with the token");
        let url = some_text(file.api_server);
        if url.is_none() && !self.is_excused(&path.join("api_server")) {
            let problem =
                Problem::error(path.clone(), "this is no pod of Kubernetes: `KUBERNETES_SERVICE_HOST` is not set");
            self.push(problem.on_key().help("write `api_server: https://10.0.0.1:6443`"));
        }
        let tls = match &url {
            Some(url) if url.to_ascii_lowercase().starts_with("https:") => {
                let ca = file.ca_file.and_then(|name| self.pem(&path.join("ca_file"), &name, Pem::Certificate));
                UpstreamTls { ca, ..UpstreamTls::default() }
            }
            Some(_) | None => UpstreamTls::default(),
        };
        let api_server = url.and_then(|url| self.api_server(&path.join("api_server"), &url, tls));
        Some(KubernetesDiscovery {
            namespace: some_text(file.namespace),
            service: service?,
            port: some_text(file.port),
            api_server: Some(api_server?),
            token_file: self.document.folder(&path.join("token_file")).join(&*token?),
            endpoint_tls: file.endpoint_tls.unwrap_or(false),
        })
    }

    fn registry(&mut self, file: &RegistryFile, service: &str, path: &Path) -> RegistryDiscovery {
        let kept = match &file.file {
            Some(name) => self.document.folder(&path.join("file")).join(name),
            None => self.document.folder(&Path::root()).join("registry").join(format!("{service}.json")),
        };
        RegistryDiscovery { ttl: self.needed(&path.join("ttl"), file.ttl, 30), file: kept }
    }

    /// Each registry owns its file: two would overwrite each other's registrations.
    pub(super) fn check_registries(&mut self, services: &BTreeMap<Arc<str>, Arc<Service>>) {
        let mut owners: BTreeMap<&path::Path, &Service> = BTreeMap::new();
        for service in services.values() {
            let Some(Discovery::Registry(registry)) = &service.discovery else { continue };
            let Some(owner) = owners.get(&*registry.file) else {
                owners.insert(&registry.file, service);
                continue;
            };
            let file = |service: &Service| service.at.join("discovery").join("registry").join("file");
            let (one, other) = (&owner.name, &service.name);
            let message = format!("services `{one}` and `{other}` keep their registrations in the same file");
            let problem = Problem::error(file(service), message).see(file(owner), format!("`{one}` keeps them here"));
            self.push(problem.help("give each service a file of its own"));
        }
    }

    fn api_server(&mut self, path: &Path, url: &str, tls: UpstreamTls) -> Option<ApiServer> {
        match parse_url(url) {
            Ok(endpoint) => Some(ApiServer { endpoint, tls }),
            Err(invalid) => {
                self.invalid(path, invalid);
                None
            }
        }
    }

    /// A text that must be there.
    fn text(&mut self, object: &Path, key: &str, written: Option<&str>, help: &str) -> Option<Arc<str>> {
        let text = written.filter(|text| !text.is_empty());
        if text.is_none() {
            self.missing(object, key, help);
        }
        text.map(Arc::from)
    }
}

/// An empty text is none: it comes from a variable that is not set.
fn some_text(text: Option<String>) -> Option<Arc<str>> {
    text.filter(|text| !text.is_empty()).map(Arc::from)
}
