//! Who serves requests over HTTP/1, one after the other, of whichever connection. What serving one takes in memory is large, and
//! neither an idle connection should hold it nor the allocator be asked for it with every request: so attendants are lent.

use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::task::Poll;

use super::http1::{Connection, Request};

/// Attendants kept at most while nobody needs them.
const KEPT: usize = 64;

/// A worker's attendants that have nothing to do.
#[derive(Default)]
pub(crate) struct Attendants(RefCell<Vec<Attendant>>);

struct Attendant {
    desk: Rc<Desk>,
    /// Serves what is laid on the desk, and never ends.
    work: Pin<Box<dyn Future<Output = ()>>>,
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
    /// Serves one request, and gives the connection back if it may carry another.
    pub(super) async fn serve(&self, connection: Connection, request: Request) -> Option<Connection> {
        let mut attendant = self.0.borrow_mut().pop().unwrap_or_else(Attendant::new);
        attendant.desk.request.replace(Some((connection, request)));
        let served = poll_fn(|cx| {
            let over = attendant.work.as_mut().poll(cx).is_ready();
            match attendant.desk.served.take() {
                Some(served) => Poll::Ready(served.goes_on.then_some(served.connection)),
                None if over => Poll::Ready(None),
                None => Poll::Pending,
            }
        })
        .await;
        // One whose request was cancelled or panicked never comes here: it is dropped with the request.
        let mut spare = self.0.borrow_mut();
        if spare.len() < KEPT {
            spare.push(attendant);
        }
        served
    }
}

impl Attendant {
    fn new() -> Self {
        let desk = Rc::new(Desk::default());
        Self { work: Box::pin(work(Rc::clone(&desk))), desk }
    }
}

async fn work(desk: Rc<Desk>) {
    loop {
        let next = poll_fn(|_| desk.request.take().map_or(Poll::Pending, Poll::Ready));
        let (mut connection, request) = next.await;
        let goes_on = connection.exchange(request).await;
        desk.served.replace(Some(Served { connection, goes_on }));
    }
}
