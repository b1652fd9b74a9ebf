//! What policies want operators to see: numbers by name and labels. Telemetry reads them; nobody decides by them.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError, Weak};

/// All numbers. One is shown for as long as somebody holds it.
#[derive(Debug, Default)]
pub struct Gauges {
    known: Mutex<BTreeMap<Series, Weak<Gauge>>>,
}

/// The name of a metric, and its labels with their values. A name that ends in `_total` is of a number that only grows.
pub type Series = (&'static str, Vec<(&'static str, Arc<str>)>);

/// A number that begins with zero.
#[derive(Debug, Default)]
pub struct Gauge(AtomicU64);

impl Gauges {
    /// Shows a new number. One that was shown under the same name and labels no longer is.
    pub fn add(&self, name: &'static str, labels: &[(&'static str, &Arc<str>)]) -> Arc<Gauge> {
        let labels = labels.iter().map(|(label, value)| (*label, Arc::clone(value))).collect();
        let gauge = Arc::new(Gauge::default());
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|_, gauge| gauge.strong_count() > 0);
        known.insert((name, labels), Arc::downgrade(&gauge));
        gauge
    }

    /// All that are shown, in the order of their names and labels.
    pub fn read(&self) -> Vec<(Series, f64)> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let live = known.iter().filter_map(|(series, gauge)| Some((series.clone(), gauge.upgrade()?.value())));
        live.collect()
    }
}

impl Gauge {
    /// Says what it is now.
    pub fn set(&self, value: f64) {
        self.0.store(value.to_bits(), Relaxed);
    }

    fn value(&self) -> f64 {
        f64::from_bits(self.0.load(Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(gauges: &Gauges) -> Vec<String> {
        let text = |((name, labels), value): (Series, f64)| format!("{name} {labels:?} {value}");
        gauges.read().into_iter().map(text).collect()
    }

    #[test]
    fn a_number_is_shown_for_as_long_as_somebody_holds_it() {
        let gauges = Gauges::default();
        let (b, a) = (gauges.add("b", &[]), gauges.add("a", &[("way", &"main".into())]));
        a.set(1.5);
        assert_eq!(shown(&gauges), ["a [(\"way\", \"main\")] 1.5", "b [] 0"]);
        drop(b);
        assert_eq!(shown(&gauges), ["a [(\"way\", \"main\")] 1.5"]);
    }

    #[test]
    fn the_newest_of_a_name_is_shown_and_outlives_the_one_before() {
        let gauges = Gauges::default();
        let old = gauges.add("a", &[]);
        let new = gauges.add("a", &[]);
        new.set(2.0);
        old.set(1.0);
        drop(old);
        assert_eq!(shown(&gauges), ["a [] 2"]);
    }
}
