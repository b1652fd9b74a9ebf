//! Who gets a connection when there are not enough.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use super::*;
use crate::io::Io;
use crate::io::testing::block_on;

const UNLIMITED: usize = 0;

fn endpoint(max_connections: usize) -> Rc<Endpoint> {
    let config = config::Endpoint {
        tls: false,
        host: "api.test".into(),
        port: 80,
        authority: "api.test".into(),
        weight: 1,
        zone: None,
        priority: 0,
    };
    let pool = config::Pool {
        max_idle: 8,
        idle_timeout: Duration::from_mins(1),
        max_connections,
        max_age: Duration::ZERO,
        max_requests: 0,
    };
    Endpoint::new(config, pool, &Arc::default())
}

type Call<'a> = Pin<Box<dyn Future<Output = Checkout> + 'a>>;

fn call(endpoint: &Rc<Endpoint>, fresh: bool, shared: bool) -> Call<'_> {
    Box::pin(endpoint.checkout(&Clock::System, fresh, shared))
}

fn poll(call: &mut Call<'_>) -> Option<Checkout> {
    match call.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(checkout) => Some(checkout),
        Poll::Pending => None,
    }
}

fn permit(call: &mut Call<'_>) -> Permit {
    match poll(call) {
        Some(Checkout::Open(permit)) => permit,
        _ => panic!("no permit"),
    }
}

/// An open connection, and its other end.
fn connection(endpoint: &Rc<Endpoint>, permit: Permit) -> (Box<Connection>, tokio::io::DuplexStream) {
    let (near, far) = tokio::io::duplex(64);
    (Box::new(Connection::new(Io::Memory(near), Rc::clone(endpoint), permit, Clock::System.now())), far)
}

#[test]
fn a_freed_connection_belongs_to_whoever_has_waited_longest() {
    let endpoint = endpoint(1);
    let open = permit(&mut call(&endpoint, false, false));
    let [mut first, mut second, mut late] = std::array::from_fn(|_| call(&endpoint, false, false));
    assert!(poll(&mut first).is_none() && poll(&mut second).is_none());
    drop(open);
    assert!(poll(&mut late).is_none() && poll(&mut second).is_none(), "it is the first's turn");
    let open = permit(&mut first);
    assert!(poll(&mut second).is_none());
    drop(open);
    drop(second);
    permit(&mut late);
}

#[test]
fn a_connection_that_is_given_back_goes_to_who_waits_and_not_to_who_comes() {
    block_on(async {
        let endpoint = endpoint(1);
        let (connection, _far) = connection(&endpoint, permit(&mut call(&endpoint, false, false)));
        let mut waiting = call(&endpoint, false, false);
        assert!(poll(&mut waiting).is_none());
        endpoint.give_back(connection, Clock::System.now());
        assert!(endpoint.take_idle(Clock::System.now()).is_none());
        assert!(matches!(poll(&mut waiting), Some(Checkout::Reused(_))));
    });
}

#[test]
fn who_wants_a_fresh_connection_gets_the_place_of_an_idle_one() {
    block_on(async {
        let endpoint = endpoint(1);
        let (connection, _far) = connection(&endpoint, permit(&mut call(&endpoint, false, false)));
        let (mut fresh, mut next) = (call(&endpoint, true, false), call(&endpoint, false, false));
        assert!(poll(&mut fresh).is_none() && poll(&mut next).is_none());
        endpoint.give_back(connection, Clock::System.now());
        let open = permit(&mut fresh);
        assert!(poll(&mut next).is_none());
        drop(open);
        permit(&mut next);
    });
}

#[test]
fn one_after_the_other_tries_to_open_what_all_may_share() {
    let endpoint = endpoint(UNLIMITED);
    let opening = permit(&mut call(&endpoint, false, true));
    let [mut first, mut second] = std::array::from_fn(|_| call(&endpoint, false, true));
    assert!(poll(&mut first).is_none() && poll(&mut second).is_none());
    drop(opening);
    let opening = permit(&mut first);
    assert!(poll(&mut second).is_none());
    drop(opening);
    permit(&mut second);
}

#[test]
fn all_who_wait_get_a_session_that_has_room() {
    block_on(async {
        let endpoint = endpoint(1);
        let permit = permit(&mut call(&endpoint, false, true));
        let mut waiting: [_; 3] = std::array::from_fn(|_| call(&endpoint, false, true));
        assert!(waiting.iter_mut().all(|call| poll(call).is_none()));
        let (near, far) = tokio::io::duplex(64 * 1024);
        let session = Session::open(Io::Memory(near), Rc::clone(&endpoint), permit, &Clock::System);
        let server = async {
            let mut server = h2::server::handshake(far).await.unwrap();
            std::future::poll_fn(|cx| server.poll_closed(cx)).await.unwrap();
        };
        let calls = async {
            endpoint.keep_session(&session.await.unwrap());
            for call in waiting {
                assert!(matches!(call.await, Checkout::Shared(_)));
            }
        };
        tokio::select! {
            biased;
            () = calls => {}
            () = server => panic!("the session ended"),
        }
    });
}

#[test]
fn too_many_do_not_wait() {
    let endpoint = endpoint(1);
    let _open = permit(&mut call(&endpoint, false, false));
    let mut waiting: Vec<_> = (0..=1000).map(|_| call(&endpoint, false, false)).collect();
    let last = waiting.len() - 1;
    assert!(waiting[..last].iter_mut().all(|call| poll(call).is_none()));
    assert!(matches!(poll(&mut waiting[last]), Some(Checkout::Crowded)));
}
