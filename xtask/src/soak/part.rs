//! The parts of a soak: how the endpoints are, and what happens to them when.

use std::time::Duration;

use super::endpoints::COUNT;

/// One run of load.
pub(super) struct Part {
    pub(super) name: &'static str,
    /// Of each endpoint once the gateway runs; it starts while all are well.
    pub(super) modes: [&'static str; COUNT],
    /// Its own length, or the one that was asked for.
    pub(super) seconds: Option<u32>,
    pub(super) trouble: Trouble,
}

/// What happens to endpoints besides.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Trouble {
    None,
    /// One of them is killed every ten seconds and comes back three seconds later.
    Killing(usize),
    /// All of them, one after the other, are ended in good order and started again.
    Rolling,
    /// All of them, one after the other, are killed and come back a second later.
    Slaughter,
}

/// Something that happens to one endpoint.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Event {
    /// Since the load began.
    pub(super) at: Duration,
    pub(super) endpoint: usize,
    pub(super) what: What,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum What {
    Kill,
    Start,
    /// SIGTERM, and a new process when the old one has ended.
    Restart,
}

const WELL: [&str; COUNT] = ["well"; COUNT];

pub(super) const ALL: &[Part] = &[
    Part { name: "healthy", modes: WELL, seconds: None, trouble: Trouble::None },
    Part {
        name: "chaos",
        modes: ["well", "hang", "well", "reset", "errors", "well", "well", "slow"],
        seconds: None,
        // Well while it lives, but not one of the three that stay so.
        trouble: Trouble::Killing(6),
    },
    Part { name: "outage", modes: ["unavailable"; COUNT], seconds: Some(20), trouble: Trouble::None },
    Part { name: "rolling", modes: WELL, seconds: Some(20), trouble: Trouble::Rolling },
    Part { name: "killing", modes: WELL, seconds: Some(20), trouble: Trouble::Slaughter },
];

pub(super) fn names() -> Vec<&'static str> {
    ALL.iter().map(|part| part.name).collect()
}

impl Trouble {
    /// In the order of time, none later than `seconds`.
    pub(super) fn events(self, seconds: u32) -> Vec<Event> {
        let event = |at: f64, endpoint: usize, what| Event { at: Duration::from_secs_f64(at), endpoint, what };
        // Two seconds for each, so that every second or third meets connections that are used again.
        let turns = (0_u8..).map(|turn| 3.0 + 2.0 * f64::from(turn)).zip(0..COUNT);
        let events: Vec<Event> = match self {
            Self::None => Vec::new(),
            Self::Killing(endpoint) => (0..=seconds / 10)
                .map(|turn| 5.0 + 10.0 * f64::from(turn))
                .flat_map(|at| [event(at, endpoint, What::Kill), event(at + 3.0, endpoint, What::Start)])
                .collect(),
            Self::Rolling => turns.map(|(at, endpoint)| event(at, endpoint, What::Restart)).collect(),
            Self::Slaughter => turns
                .flat_map(|(at, endpoint)| [event(at, endpoint, What::Kill), event(at + 1.0, endpoint, What::Start)])
                .collect(),
        };
        events.into_iter().filter(|event| event.at < Duration::from_secs(seconds.into())).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Event, Trouble, What};

    #[test]
    fn a_killed_endpoint_is_back_after_three_seconds() {
        let seconds =
            |events: &[Event]| events.iter().map(|event| (event.at.as_secs(), event.what)).collect::<Vec<_>>();
        let expected = [(5, What::Kill), (8, What::Start), (15, What::Kill), (18, What::Start)];
        assert_eq!(seconds(&Trouble::Killing(6).events(20)), expected);
    }

    #[test]
    fn a_rolling_restart_reaches_every_endpoint_once() {
        let endpoints: Vec<usize> = Trouble::Rolling.events(20).iter().map(|event| event.endpoint).collect();
        assert_eq!(endpoints, (0..8).collect::<Vec<_>>());
        assert!(Trouble::Slaughter.events(20).is_sorted_by_key(|event| event.at));
        assert!(Trouble::Slaughter.events(20).iter().all(|event| event.at < Duration::from_secs(20)));
    }
}
