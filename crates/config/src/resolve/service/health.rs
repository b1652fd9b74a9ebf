//! `health` and `outlier_detection`: how the state of endpoints is found out.

use std::sync::Arc;
use std::time::Duration;

use http::Method;

use crate::config::{HealthCheck, HttpProbe, OutlierDetection, Probe, Statuses};
use crate::file::{HealthFile, HttpProbeFile, OutlierDetectionFile};
use crate::problem::{Path, Problem};
use crate::resolve::Resolver;
use crate::value::{self, Share};

/// More failures or successes in a row than this are not waited for.
const MAX_IN_A_ROW: u32 = 1000;

impl Resolver<'_> {
    pub(super) fn health(&mut self, file: HealthFile, path: &Path) -> HealthCheck {
        let keys = [("http", file.http.is_some()), ("tcp", file.tcp.is_some()), ("grpc", file.grpc.is_some())];
        self.one_of(path, &keys, "an endpoint is checked in one way");
        let interval = self.needed(&path.join("interval"), file.interval, 30);
        let timeout = self.needed(&path.join("timeout"), file.timeout, 5);
        if timeout > interval && !self.is_excused(path) {
            let at = if self.is_default(&path.join("timeout")) { "interval" } else { "timeout" };
            let problem = Problem::warning(path.join(at), "a check may take longer than the time to the next one");
            self.push(problem.help("an endpoint has one check at a time, so late ones are left out: lower `timeout`"));
        }
        if file.port == Some(0) {
            self.error(&path.join("port"), "ports are numbers from 1 to 65535");
        }
        let backoff_max = file.backoff.map(|backoff| self.needed(&path.join("backoff").join("max"), backoff.max, 300));
        HealthCheck {
            probe: match (file.http, file.grpc) {
                (Some(http), _) => self.http_probe(http, &path.join("http")),
                (None, Some(grpc)) => Probe::Grpc(grpc.service.unwrap_or_default().into()),
                (None, None) => Probe::Tcp,
            },
            port: file.port,
            interval,
            timeout,
            retries: self.bounded(&path.join("retries"), file.retries, (1, MAX_IN_A_ROW)),
            rise: self.bounded(&path.join("rise"), file.rise, (1, MAX_IN_A_ROW)),
            backoff_max: backoff_max.map_or(interval, |max| max.max(interval)),
        }
    }

    fn http_probe(&mut self, file: HttpProbeFile, path: &Path) -> Probe {
        let target = self.required(&path.join("path"), file.path, "/health".to_owned());
        if !target.starts_with('/') || target.contains(|c: char| c == '#' || !c.is_ascii_graphic()) {
            let problem = Problem::error(path.join("path"), format!("`{target}` is not a path that can be asked for"));
            self.push(
                problem.help("paths begin with `/`; spaces and letters outside ASCII are written as `%20` and such"),
            );
        }
        if file.expect.is_empty() && !self.is_excused(&path.join("expect")) {
            self.push(Problem::error(path.join("expect"), "no status is well").help("write `expect: 200-399`"));
        }
        let headers = self.own_headers(file.headers.as_ref(), &path.join("headers"));
        Probe::Http(HttpProbe {
            path: target.into(),
            method: file.method.map_or(Method::GET, |method| method.0),
            headers,
            expect: Statuses(file.expect.into_iter().map(|range| range.0).collect()),
            body: file.body.filter(|text| !text.is_empty()).map(Arc::from),
        })
    }

    pub(super) fn outliers(&mut self, file: &OutlierDetectionFile, path: &Path) -> OutlierDetection {
        let consecutive_errors = file
            .consecutive_errors
            .map(|count| self.bounded(&path.join("consecutive_errors"), Some(count), (1, MAX_IN_A_ROW)));
        let failure_ratio =
            file.failure_ratio.map(|share| self.some_share(&path.join("failure_ratio"), Some(share), 0.5));
        if let Some(factor) = file.slow_factor.filter(|factor| *factor <= 1.0 || !factor.is_finite()) {
            let problem = Problem::error(
                path.join("slow_factor"),
                format!("{factor} times the median tells no endpoint that is slow from the others"),
            );
            self.push(problem.help("write a number above 1, or `off`"));
        }
        let eject = self.needed(&path.join("eject"), file.eject, 30);
        let max_eject = self.needed(&path.join("max_eject"), file.max_eject, 300);
        let Share(max_ejected) = self.required(&path.join("max_ejected"), file.max_ejected, Share(0.5));
        OutlierDetection {
            consecutive_errors,
            failure_ratio,
            min_requests: self.bounded(&path.join("min_requests"), file.min_requests, (1, u32::MAX)),
            slow_factor: file.slow_factor,
            eject,
            max_eject: self.at_least(eject, max_eject, &path.join("max_eject"), "ejection"),
            max_ejected,
        }
    }

    /// A time that there must be; `seconds` is the built-in one.
    pub(super) fn needed(&mut self, path: &Path, written: Option<value::Duration>, seconds: u64) -> Duration {
        let duration = self.required(path, written, value::Duration(Duration::from_secs(seconds)));
        if duration.0.is_zero() {
            self.error(path, "this time cannot be zero");
        }
        duration.0
    }

    /// The longest of times that grow from `first`: a built-in one gives way, a written one is a mistake.
    pub(super) fn at_least(&mut self, first: Duration, longest: Duration, path: &Path, what: &str) -> Duration {
        if longest < first && !longest.is_zero() && !self.is_default(path) {
            let (longest, first) = (value::Duration(longest), value::Duration(first));
            self.error(path, format!("{longest} is less than the first {what} of {first}"));
        }
        longest.max(first)
    }

    /// A share above zero.
    pub(super) fn some_share(&mut self, path: &Path, share: Option<Share>, fallback: f64) -> f64 {
        let Share(share) = self.required(path, share, Share(fallback));
        if share <= 0.0 {
            self.error(path, "with 0% even a service without a failure fails");
        }
        share
    }
}
