//! Who serves requests over HTTP/1, one after the other, of whichever connection. What serving one takes in memory is large, and
//! neither an idle connection should hold it nor the allocator be asked for it with every request: so attendants are lent.

use std::cell::RefCell;
use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use tidegate_core::exchange::Exchange;

use super::http1::{Connection, Request};

/// Attendants kept at most while nobody needs them.
const KEPT: usize = 64;

/// A worker's attendants that have nothing to do.
#[derive(Default)]
pub(crate) struct Attendants(RefCell<Vec<Attendant>>);

struct Attendant {
    desk: Rc<Desk>,
    /// Serves what is laid on the desk, and never ends.
    work: Pin<Box<dyn Future<Output = Infallible>>>,
}

/// Where requests are handed over, and connections handed back.
#[derive(Default)]
struct Desk {
    request: RefCell<Option<(Connection, Request)>>,
    served: RefCell<Option<Served>>,
}

/// A connection whose request was served, and whether it may carry another.
struct Served {
    connection: Connection,
    goes_on: bool,
}

impl Attendants {
    /// Serves one request, and gives the connection back if it may carry another. Nothing of either is kept in what this returns:
    /// it is part of every connection, also of idle ones.
    pub(super) fn serve(&self, connection: Connection, request: Request) -> Serving<'_> {
        let attendant = self.0.borrow_mut().pop().unwrap_or_else(|| Attendant::new(connection.vacant()));
        attendant.desk.request.replace(Some((connection, request)));
        Serving { attendants: self, attendant: Some(attendant) }
    }
}

/// A request that is being served.
pub(super) struct Serving<'a> {
    attendants: &'a Attendants,
    attendant: Option<Attendant>,
}

impl Future for Serving<'_> {
    type Output = Option<Connection>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Self { attendants, attendant: lent } = self.get_mut();
        // One whose request is cancelled or panics is dropped with it: it is taken here, and put back when it has not panicked.
        let Some(mut attendant) = lent.take() else { return Poll::Ready(None) };
        let Poll::Pending = attendant.work.as_mut().poll(cx);
        let Some(Served { connection, goes_on }) = attendant.desk.served.take() else {
            *lent = Some(attendant);
            return Poll::Pending;
        };
        let mut spare = attendants.0.borrow_mut();
        if spare.len() < KEPT {
            spare.push(attendant);
        }
        Poll::Ready(goes_on.then_some(connection))
    }
}

impl Attendant {
    fn new(vacant: Exchange) -> Self {
        let desk = Rc::new(Desk::default());
        Self { work: Box::pin(work(Rc::clone(&desk), vacant)), desk }
    }
}

async fn work(desk: Rc<Desk>, mut exchange: Exchange) -> Infallible {
    loop {
        let next = poll_fn(|_| desk.request.take().map_or(Poll::Pending, Poll::Ready));
        let (mut connection, request) = next.await;
        let goes_on = connection.exchange(&mut exchange, request).await;
        desk.served.replace(Some(Served { connection, goes_on }));
    }
}
