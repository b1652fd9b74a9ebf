//! What a policy is: its word in the configuration, and the gates that it makes for a route. A policy is one file that implements
//! [`Policy`], and one line in the table.

use std::any::{Any, TypeId};
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::de::DeserializeOwned;
use tidegate_config::Config;
use tidegate_config::config::Route;
use tidegate_config::policy::{Place, Reading, Word};
use tidegate_config::problem::{Path, Problem, Problems};
use tidegate_core::policy::{Gate, Job, Link, Phase, Shared};

/// A policy.
pub(crate) trait Policy: 'static {
    /// Its word.
    const KEY: &'static str;
    /// Where the word stands.
    const PLACE: Place;
    /// See [`Word::built_in`].
    const BUILT_IN: &'static str = "";
    /// See [`Word::short`].
    const SHORT: Option<&'static str> = None;
    /// See [`Word::secrets`].
    const SECRETS: &'static [[&'static str; 2]] = &[];
    /// A configuration that uses it, for the reference: it must be valid.
    const EXAMPLE: &'static str;
    /// As written. Its descriptions are the reference's text.
    type File: DeserializeOwned + JsonSchema;
    /// As meant.
    type Meaning: Send + Sync + 'static;

    /// Finds out what is meant, and reports what is wrong with it.
    fn mean(file: Self::File, reading: &mut Reading<'_, '_>) -> Option<Self::Meaning>;

    /// Adds the gates of one route, or of the router where there is none. A word at the top is told to every one of them, and the
    /// meaning is `None` where the word is not written.
    fn build(meaning: Option<&Self::Meaning>, at: &Path, setup: &mut Setup<'_>);
}

/// A line of the table.
pub(crate) struct Entry {
    pub(crate) word: Word,
    /// See [`Policy::EXAMPLE`].
    pub(crate) example: &'static str,
    pub(crate) build: fn(&mut Setup<'_>),
}

impl Entry {
    pub(crate) const fn of<P: Policy>() -> Self {
        let word = Word {
            key: P::KEY,
            place: P::PLACE,
            schema: schema::<P>,
            built_in: P::BUILT_IN,
            short: P::SHORT,
            secrets: P::SECRETS,
            read: read::<P>,
        };
        Self { word, example: P::EXAMPLE, build: build::<P> }
    }
}

fn schema<P: Policy>(generator: &mut SchemaGenerator) -> Schema {
    generator.subschema_for::<P::File>()
}

fn read<P: Policy>(reading: &mut Reading<'_, '_>) -> Option<Arc<dyn Any + Send + Sync>> {
    let file = reading.read::<P::File>()?;
    Some(Arc::new(P::mean(file, reading)?))
}

fn build<P: Policy>(setup: &mut Setup<'_>) {
    let config = setup.config;
    let written = match (P::PLACE, setup.route) {
        (Place::Top, _) => config.policies.iter().find(|written| written.key == P::KEY),
        (Place::Route, route) => route.and_then(|route| route.policies.iter().find(|written| written.key == P::KEY)),
    };
    let root = Path::root();
    let at = written.map_or(&root, |written| &written.at);
    P::build(written.and_then(|written| written.meaning()), at, setup);
}

/// What gates are made with. Making them has no effects.
pub(crate) struct Setup<'a> {
    /// All of the configuration.
    pub(crate) config: &'a Config,
    /// The route whose chain is made; `None` for the router's own.
    pub(crate) route: Option<&'a Route>,
    /// What outlives the configuration.
    pub(crate) shared: &'a Arc<Shared>,
    /// What is wrong.
    pub(crate) problems: &'a mut Problems,
    /// Names of fields that only the gateway may send to services.
    pub(crate) guarded: &'a mut BTreeSet<String>,
    pub(super) links: Vec<Link>,
    pub(super) jobs: &'a mut Vec<Arc<dyn Job>>,
    pub(super) once: &'a mut HashMap<TypeId, Arc<dyn Any + Send + Sync>>,
}

impl<'a> Setup<'a> {
    /// Adds a gate to the chain. `name` tells several of one policy apart.
    pub(crate) fn gate(&mut self, of: (Phase, &'static str), name: &Arc<str>, at: &Path, gate: Arc<dyn Gate>) {
        self.shadowed_gate(of, name, (at, false), gate);
    }

    /// The same, with a word on whether the gate is in shadow mode whatever the route says.
    pub(crate) fn shadowed_gate(
        &mut self,
        (phase, policy): (Phase, &'static str),
        name: &Arc<str>,
        (at, shadow): (&Path, bool),
        gate: Arc<dyn Gate>,
    ) {
        let name = Arc::clone(name);
        let route = self.route.map_or_else(|| Arc::from(""), |route| Arc::clone(&route.name));
        let tally = self.shared.tally((route, policy, Arc::clone(&name)));
        let by_route = self.route.is_some_and(|route| route.shadow.iter().any(|shadowed| **shadowed == *policy));
        self.links.push(Link { phase, policy, name, gate, shadow: shadow || by_route, tally, at: at.clone() });
    }

    /// Work that goes on for as long as the configuration is in use.
    pub(crate) fn job(&mut self, job: Arc<dyn Job>) {
        if !self.jobs.iter().any(|known| Arc::ptr_eq(known, &job)) {
            self.jobs.push(job);
        }
    }

    /// What a word at the top means, where it is written.
    pub(crate) fn top<P: Policy>(&self) -> Option<&P::Meaning> {
        let written = self.config.policies.iter().find(|written| written.key == P::KEY)?;
        written.meaning()
    }

    /// What the routes mean by a word, those that have it: for replies that the router makes itself. `None` in a route's own chain.
    pub(crate) fn said_by_routes<P: Policy>(&self) -> Option<impl Iterator<Item = &'a P::Meaning> + use<'a, P>> {
        let said = |route: &'a Arc<Route>| route.policies.iter().find(|written| written.key == P::KEY)?.meaning();
        self.route.is_none().then(|| self.config.routes.iter().filter_map(said))
    }

    /// What is made once for all routes of this configuration.
    pub(crate) fn once<T: Send + Sync + 'static>(&mut self, make: impl FnOnce(&mut Self) -> T) -> Arc<T> {
        if let Some(known) = self.once.get(&TypeId::of::<T>()).and_then(|known| Arc::clone(known).downcast().ok()) {
            return known;
        }
        let new = Arc::new(make(self));
        self.once.insert(TypeId::of::<T>(), Arc::<T>::clone(&new));
        new
    }

    /// Reports what is wrong.
    pub(crate) fn report(&mut self, problem: Problem) {
        self.problems.push(problem);
    }
}
