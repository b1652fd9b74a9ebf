//! What a route does to traffic besides sending it on: `split`, `mirror`, `fault`, and its own `retry`.

use std::collections::BTreeSet;
use std::sync::Arc;

use http::StatusCode;

use crate::config::{Fault, FieldMatch, Key, Mirror, RouteRetry, Split, SplitPart, Target, ValueMatch, When};
use crate::file::{FaultFile, KeyFile, ListOr, MirrorFile, RetryFile, SplitFile, SplitPartFile, WhenFile};
use crate::problem::{Path, Problem};
use crate::resolve::Resolver;
use crate::tree::Node;
use crate::value::{FieldName, Name, PathPattern, Share, Size};

/// The greatest weight of a part of a split.
const MAX_WEIGHT: u32 = 1_000_000;

impl Resolver<'_> {
    pub(super) fn split(
        &mut self,
        file: &ListOr<SplitPartFile, SplitFile>,
        path: &Path,
        pattern: &PathPattern,
        services: &BTreeSet<Arc<str>>,
    ) -> Split {
        let (parts, sticky, list) = match file {
            ListOr::List(parts) => (parts, None, path.clone()),
            ListOr::Full(file) => (&file.parts, file.sticky.as_ref(), path.join("parts")),
        };
        let mut resolved = Vec::new();
        for (position, part) in parts.iter().enumerate() {
            let at = list.index(position);
            resolved.extend(self.split_part(part, &at, services));
        }
        if parts.is_empty() && !self.is_excused(&list) {
            self.push(
                Problem::error(list, "a split needs at least one part")
                    .help("write `split: [{ service: NAME, weight: 95 }, ...]`"),
            );
        } else if resolved.len() == parts.len() && resolved.iter().all(|part| part.weight == 0) {
            self.push(
                Problem::error(list, "every part of the split has the weight 0, so nobody answers")
                    .help("give one of them a weight"),
            );
        }
        let sticky = sticky.map(|KeyFile(key)| key.clone());
        if let Some(Key::Path(name)) =
            sticky.as_ref().filter(|key| !matches!(key, Key::Path(name) if pattern.binds(name)))
        {
            let problem =
                Problem::error(path.join("sticky"), format!("the path `{pattern}` has no parameter `{name}`"));
            self.push(problem.help(format!("write `{{{name}}}` into the path of the route")));
        }
        Split { parts: resolved, sticky }
    }

    fn split_part(&mut self, part: &SplitPartFile, at: &Path, services: &BTreeSet<Arc<str>>) -> Option<SplitPart> {
        // Who writes only a condition means only those requests.
        let weight = part.weight.unwrap_or(u32::from(part.when.is_none()));
        if weight > MAX_WEIGHT {
            self.error(&at.join("weight"), format!("a weight is at most {MAX_WEIGHT}"));
        }
        let when = part.when.as_ref().map(|when| self.when(when, &at.join("when")));
        let Some(Name(service)) = &part.service else {
            self.missing(at, "service", "each part of a split is a service with a weight");
            return None;
        };
        let service = self.service_name(&at.join("service"), service, services)?;
        Some(SplitPart { service, weight, when })
    }

    fn when(&mut self, file: &WhenFile, path: &Path) -> When {
        let present = |name: &Arc<str>| FieldMatch { name: Arc::clone(name), is: ValueMatch::Present };
        let mut headers: Vec<FieldMatch> = file.header.iter().map(|FieldName(name)| present(name)).collect();
        let mut cookies: Vec<FieldMatch> = file.cookie.iter().map(|name| present(&name.0)).collect();
        headers.extend(self.fields(
            file.headers.as_ref(),
            |name: &FieldName| Arc::clone(&name.0),
            &path.join("headers"),
        ));
        cookies.extend(self.fields(file.cookies.as_ref(), |name: &String| name.as_str().into(), &path.join("cookies")));
        if headers.is_empty() && cookies.is_empty() && !self.is_excused(path) {
            let problem = Problem::error(path.clone(), "this condition says nothing").on_key();
            self.push(problem.help("write `when: { header: x-canary }`, or `cookie`, `headers` or `cookies`"));
        }
        When { headers, cookies }
    }

    /// `retry` of a route, for what the service says otherwise.
    pub(super) fn route_retry(&mut self, file: Option<&RetryFile>, route: &Node, path: &Path) -> RouteRetry {
        let Some(file) = file else {
            let is_off = route.get("retry").is_some_and(Node::is_off);
            return if is_off { RouteRetry::Off } else { RouteRetry::OfService };
        };
        let of_service = [("budget", file.budget.is_some()), ("budget_floor", file.budget_floor.is_some())];
        for (key, _) in of_service.into_iter().filter(|(_, written)| *written) {
            let problem = Problem::error(path.join(key), format!("`{key}` is one for all routes of a service"));
            self.push(problem.on_key().help("write it in the `retry` of the service"));
        }
        RouteRetry::Own(self.retry(file, path))
    }

    pub(super) fn mirror(
        &mut self,
        file: &MirrorFile,
        target: Option<&Target>,
        path: &Path,
        services: &BTreeSet<Arc<str>>,
    ) -> Option<Mirror> {
        let Some(Name(service)) = &file.service else {
            self.missing(path, "service", "write `mirror: { service: NAME }`");
            return None;
        };
        let at = path.join("service");
        let service = self.service_name(&at, service, services)?;
        let is_same = match target {
            Some(Target::Service(name)) => *name == service,
            Some(Target::Split(split)) => split.parts.iter().any(|part| part.service == service),
            Some(Target::Redirect(_) | Target::Respond(_)) | None => false,
        };
        if is_same {
            let problem = Problem::warning(at, format!("`{service}` gets the request itself, and the copy as well"));
            self.push(problem.help("mirror to a service of its own, unless twice is what is meant"));
        }
        let Share(share) = self.required(&path.join("share"), file.share, Share(1.0));
        let Size(buffer) = self.required(&path.join("buffer"), file.buffer, Size(64 << 10));
        Some(Mirror { service, share, max: self.number(&path.join("max"), file.max, (1, 100_000)), buffer })
    }

    pub(super) fn fault(&mut self, file: &FaultFile, path: &Path) -> Fault {
        if file.delay.is_none() && file.abort.is_none() && !self.is_excused(path) {
            let problem = Problem::error(path.clone(), "this fault does nothing").on_key();
            self.push(problem.help("write `delay: 2s`, `abort: 503`, or both"));
        }
        let abort = file.abort.and_then(|status| StatusCode::from_u16(status).ok());
        let abort = abort.filter(|status| (200..600).contains(&status.as_u16()));
        if file.abort.is_some() && abort.is_none() {
            self.error(&path.join("abort"), "the status of an answer is 200 to 599");
        }
        let Share(share) = self.required(&path.join("share"), file.share, Share(1.0));
        Fault {
            delay: file.delay.map(|delay| delay.0),
            abort,
            share,
            when: file.when.as_ref().map(|when| self.when(when, &path.join("when"))),
        }
    }
}
