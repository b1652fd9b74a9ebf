//! How many connections there may be: in all, and from one client. Asked when connections come and go, never by requests.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

/// The connections of the whole process.
#[derive(Debug, Default)]
pub(crate) struct Connections {
    total: AtomicUsize,
    per_client: Mutex<HashMap<IpAddr, usize>>,
}

/// Why there is no place for one more connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Full {
    Total,
    Client,
}

impl Connections {
    /// A place for a connection, counted until it is dropped.
    pub(crate) fn enter(self: &Arc<Self>, most: usize) -> Result<Place, Full> {
        if self.total.fetch_add(1, Relaxed) >= most {
            self.total.fetch_sub(1, Relaxed);
            return Err(Full::Total);
        }
        Ok(Place { connections: Arc::clone(self), client: None })
    }

    /// Connections that are open.
    pub(crate) fn total(&self) -> usize {
        self.total.load(Relaxed)
    }

    fn clients(&self) -> std::sync::MutexGuard<'_, HashMap<IpAddr, usize>> {
        self.per_client.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A counted connection.
#[derive(Debug)]
pub(crate) struct Place {
    connections: Arc<Connections>,
    client: Option<IpAddr>,
}

impl Place {
    /// Counts it for `client` too; IPv6 clients count by their /64, which is what one subscriber gets.
    pub(crate) fn claim(&mut self, client: IpAddr, most: usize) -> Result<(), Full> {
        let client = subscriber(client);
        let mut clients = self.connections.clients();
        let count = clients.entry(client).or_default();
        if *count >= most {
            return Err(Full::Client);
        }
        *count += 1;
        drop(clients);
        self.client = Some(client);
        Ok(())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.connections.total.fetch_sub(1, Relaxed);
        let Some(client) = self.client else { return };
        let mut clients = self.connections.clients();
        if let Some(count) = clients.get_mut(&client) {
            *count -= 1;
            if *count == 0 {
                clients.remove(&client);
            }
        }
    }
}

fn subscriber(client: IpAddr) -> IpAddr {
    match client.to_canonical() {
        client @ IpAddr::V4(_) => client,
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & (u128::MAX << 64)).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_client_cannot_take_all_places() {
        let connections = Arc::new(Connections::default());
        let client: IpAddr = "192.0.2.1".parse().unwrap();
        let mut places: Vec<_> = (0..2).map(|_| connections.enter(10).unwrap()).collect();
        for place in &mut places {
            place.claim(client, 2).unwrap();
        }
        let mut third = connections.enter(10).unwrap();
        assert_eq!(third.claim(client, 2), Err(Full::Client));
        third.claim("192.0.2.2".parse().unwrap(), 2).unwrap();
        drop(places);
        connections.enter(10).unwrap().claim(client, 2).unwrap();
    }

    #[test]
    fn a_subscriber_is_a_slash_64() {
        let connections = Arc::new(Connections::default());
        let mut one = connections.enter(10).unwrap();
        one.claim("2001:db8::1".parse().unwrap(), 1).unwrap();
        let mut two = connections.enter(10).unwrap();
        assert_eq!(two.claim("2001:db8::ffff:2".parse().unwrap(), 1), Err(Full::Client));
    }

    #[test]
    fn clients_of_ipv4_on_a_dual_stack_listener_are_told_apart() {
        let connections = Arc::new(Connections::default());
        let mut one = connections.enter(10).unwrap();
        one.claim("::ffff:192.0.2.1".parse().unwrap(), 1).unwrap();
        let mut two = connections.enter(10).unwrap();
        two.claim("::ffff:192.0.2.2".parse().unwrap(), 1).unwrap();
        assert_eq!(connections.enter(10).unwrap().claim("192.0.2.2".parse().unwrap(), 1), Err(Full::Client));
    }

    #[test]
    fn places_are_given_back() {
        let connections = Arc::new(Connections::default());
        let place = connections.enter(1).unwrap();
        assert_eq!(connections.enter(1).unwrap_err(), Full::Total);
        drop(place);
        assert!(connections.enter(1).is_ok());
        assert_eq!(connections.total(), 0);
    }
}
