//! Between a provider and the service: tells of sets that differ from the last one, and logs the first failure of a streak.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::rc::Rc;
use std::sync::Arc;

use tidegate_config::MAX_WEIGHT;
use tidegate_config::config::Endpoint;

/// What became known about a service's endpoints.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum News {
    /// All of them; there may be none.
    Endpoints(Vec<Endpoint>),
    /// The source was asked, and what was known before is still so.
    Confirmed,
    /// The source could not be asked: what was known before still holds. To be counted; it is logged already.
    Failed(String),
}

/// Where a provider tells what it knows.
pub(crate) struct Publisher {
    service: Arc<str>,
    publish: Rc<dyn Fn(News)>,
    last: RefCell<Option<Vec<Endpoint>>>,
    failures: Cell<u32>,
    doubts: RefCell<Vec<String>>,
}

impl Publisher {
    pub(crate) fn new(service: Arc<str>, publish: Rc<dyn Fn(News)>) -> Self {
        Self { service, publish, last: RefCell::default(), failures: Cell::new(0), doubts: RefCell::default() }
    }

    /// Replaces the set. Neither its order nor repetitions matter, and the set that is known already is news only after a failure:
    /// then it says that the source is back.
    pub(crate) fn publish(&self, mut endpoints: Vec<Endpoint>) {
        // By everything, so that of repetitions that differ it is always the same one that counts.
        let rest = |endpoint: &Endpoint| (endpoint.port, endpoint.tls, endpoint.weight);
        endpoints.sort_by(|a, b| (a.priority, &a.host, rest(a), &a.zone).cmp(&(b.priority, &b.host, rest(b), &b.zone)));
        for endpoint in &mut endpoints {
            endpoint.weight = endpoint.weight.min(MAX_WEIGHT);
        }
        let mut seen = BTreeSet::new();
        endpoints.retain(|endpoint| seen.insert((Arc::clone(&endpoint.host), endpoint.port)));
        let recovered = self.failures.replace(0) > 0;
        if recovered {
            tracing::info!(service = %self.service, "discovery works again");
        }
        let is_new = self.last.borrow().as_ref() != Some(&endpoints);
        if is_new {
            tracing::info!(service = %self.service, endpoints = endpoints.len(), "endpoints discovered");
            *self.last.borrow_mut() = Some(endpoints.clone());
        }
        if is_new || recovered {
            (self.publish)(News::Endpoints(endpoints));
        }
    }

    /// A question has been answered, unless a failure was told of since the last set.
    pub(crate) fn answered(&self) {
        if self.failures.get() == 0 {
            (self.publish)(News::Confirmed);
        }
    }

    /// The source could not be asked. The last good set stays.
    pub(crate) fn failed(&self, why: String) {
        if self.failures.replace(self.failures.get().saturating_add(1)) == 0 {
            let kept = self.last.borrow().as_ref().map_or(0, Vec::len);
            tracing::warn!(service = %self.service, kept, "discovery failed, the endpoints known before are kept: {why}");
        }
        (self.publish)(News::Failed(why));
    }

    /// Parts of the set that cannot be used as the source says them. The same ones are logged once.
    pub(crate) fn doubted(&self, doubts: Vec<String>) {
        let known = self.doubts.replace(doubts);
        for doubt in self.doubts.borrow().iter().filter(|doubt| !known.contains(doubt)) {
            tracing::warn!(service = %self.service, "discovery: {doubt}");
        }
    }

    /// Failures since the last set, in a row.
    pub(crate) fn failures(&self) -> u32 {
        self.failures.get()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upstream::discovery::endpoint;

    fn publisher() -> (Publisher, Rc<RefCell<Vec<News>>>) {
        let news: Rc<RefCell<Vec<News>>> = Rc::default();
        let heard = Rc::clone(&news);
        (Publisher::new("one".into(), Rc::new(move |news| heard.borrow_mut().push(news))), news)
    }

    fn at(host: &str) -> Endpoint {
        endpoint(false, host, 80).unwrap()
    }

    #[test]
    fn the_same_set_in_another_order_or_with_repetitions_is_no_news() {
        let (publisher, news) = publisher();
        publisher.publish(vec![at("b.test"), at("a.test")]);
        publisher.publish(vec![at("a.test"), at("b.test"), at("a.test")]);
        assert_eq!(*news.borrow(), [News::Endpoints(vec![at("a.test"), at("b.test")])]);
        publisher.publish(vec![at("b.test")]);
        assert_eq!(news.borrow().last(), Some(&News::Endpoints(vec![at("b.test")])));
    }

    #[test]
    fn of_repetitions_that_differ_the_same_one_counts_in_any_order() {
        let (publisher, news) = publisher();
        let heavy = Endpoint { weight: 5, ..at("a.test") };
        publisher.publish(vec![heavy.clone(), at("a.test")]);
        publisher.publish(vec![at("a.test"), heavy]);
        assert_eq!(*news.borrow(), [News::Endpoints(vec![at("a.test")])]);
    }

    #[test]
    fn a_first_set_is_news_even_if_it_is_empty() {
        let (publisher, news) = publisher();
        publisher.publish(Vec::new());
        publisher.publish(Vec::new());
        assert_eq!(*news.borrow(), [News::Endpoints(Vec::new())]);
    }

    #[test]
    fn after_failures_the_set_is_told_once_more() {
        let (publisher, news) = publisher();
        publisher.publish(vec![at("a.test")]);
        publisher.failed("no answer".into());
        publisher.failed("no answer".into());
        assert_eq!(publisher.failures(), 2);
        publisher.publish(vec![at("a.test")]);
        assert_eq!(publisher.failures(), 0);
        let known = News::Endpoints(vec![at("a.test")]);
        let failed = News::Failed("no answer".into());
        assert_eq!(*news.borrow(), [known.clone(), failed.clone(), failed, known]);
    }
}
