//! A worker's thread: its runtime, the sockets it accepts from, and the commands of the control side.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::{mpsc, watch};

use crate::alarm::pause;
use crate::gateway::Key;
use crate::listener::accept::{self, Door};
use crate::net::Net;
use crate::snapshot::Snapshot;
use crate::tasks::{Task, spawn_local};
use crate::worker::{Parts, Worker};

/// How often a draining worker looks whether it is done.
const DRAIN_TICK: Duration = Duration::from_millis(20);

/// How often tasks are polled before the worker looks at its sockets again. More than one burst of messages needs, because a
/// look in the middle of a burst gives those who were woken time to fall asleep (see [`crate::tasks::let_others_go_first`]).
const TURNS: u32 = 256;

/// What the control side asks of a worker.
pub(crate) enum Command {
    /// Serve this from now on, on these sockets and no others. Whoever waits for `served` to be dropped knows that it is so.
    Adopt { snapshot: Arc<Snapshot>, sockets: Vec<Socket>, served: std::sync::mpsc::Sender<Infallible> },
    /// End when all connections have ended, or after this time.
    Drain(Duration),
    /// End.
    Stop,
}

/// One worker's socket on a listener's address.
pub(crate) struct Socket {
    pub(crate) key: Key,
    pub(crate) listener: Arc<str>,
    pub(crate) port: u16,
    pub(crate) accepts: std::net::TcpListener,
}

/// Runs a worker until it is told to end. `ended` is told how many connections were cut off, `ready` whether it runs at all.
pub(crate) fn worker(
    parts: Parts,
    commands: mpsc::UnboundedReceiver<Command>,
    (ended, ready): (&watch::Sender<usize>, &std::sync::mpsc::Sender<io::Result<()>>),
) {
    let mut builder = Builder::new_current_thread();
    builder.enable_io().enable_time().event_interval(TURNS);
    let (runtime, is_ready) = match builder.build_local(LocalOptions::default()) {
        Ok(runtime) => (Some(runtime), Ok(())),
        Err(error) => (None, Err(error)),
    };
    // Whoever started it waits for this word.
    ready.send(is_ready).ok();
    let Some(runtime) = runtime else { return };
    let left = runtime.block_on(async move {
        let worker = Worker::new(parts, Rc::new(Net::System));
        let _tending = spawn_local(Rc::clone(&worker).tend());
        obey(worker, commands).await
    });
    // Connections that were cut off are dropped here, and with them their last log lines are written.
    // A name that is still being looked up does not hold the end up.
    runtime.shutdown_background();
    ended.send_replace(left);
}

async fn obey(worker: Rc<Worker>, mut commands: mpsc::UnboundedReceiver<Command>) -> usize {
    let mut accepting = BTreeMap::new();
    while let Some(command) = commands.recv().await {
        match command {
            Command::Adopt { snapshot, sockets, served } => {
                adopt(&worker, &mut accepting, &snapshot, sockets);
                drop(served);
            }
            Command::Drain(at_most) => {
                drain(&worker, accepting, &mut commands, at_most).await;
                break;
            }
            Command::Stop => break,
        }
    }
    worker.end();
    worker.open()
}

/// A socket that is being accepted from.
struct Accepting {
    socket: Rc<TcpListener>,
    door: Rc<RefCell<Rc<Door>>>,
    _task: Task,
}

fn adopt(
    worker: &Rc<Worker>,
    accepting: &mut BTreeMap<Key, Accepting>,
    snapshot: &Arc<Snapshot>,
    sockets: Vec<Socket>,
) {
    worker.adopt(Arc::clone(snapshot));
    let wanted: Vec<_> = sockets.iter().map(|socket| socket.key.clone()).collect();
    let gone: Vec<_> = accepting.keys().filter(|key| !wanted.contains(key)).cloned().collect();
    let mut has_closed = !gone.is_empty();
    for key in gone {
        if let Some(closing) = accepting.remove(&key) {
            close(worker, &closing);
        }
    }
    for socket in sockets {
        let open = accepting.get(&socket.key);
        let before = open.map(|open| Rc::clone(&open.door.borrow()));
        let named = (&*socket.listener, socket.port);
        let Some(door) = Door::of(worker, snapshot, named, before.as_deref()) else { continue };
        has_closed |= before.is_some_and(|before| before.is_closed());
        if let Some(open) = open {
            *open.door.borrow_mut() = door;
        } else {
            match listen(worker, socket.accepts, door) {
                Ok(open) => {
                    accepting.insert(socket.key, open);
                }
                Err(error) => tracing::error!(address = %socket.key.0, "a socket could not be listened on: {error}"),
            }
        }
    }
    if has_closed {
        worker.wake_connections();
    }
}

fn listen(worker: &Rc<Worker>, socket: std::net::TcpListener, door: Rc<Door>) -> io::Result<Accepting> {
    let socket = Rc::new(TcpListener::from_std(socket)?);
    let door = Rc::new(RefCell::new(door));
    let current = Rc::clone(&door);
    let task = spawn_local(accept::run(Rc::clone(worker), Rc::clone(&socket), move || Rc::clone(&current.borrow())));
    Ok(Accepting { socket, door, _task: task })
}

fn close(worker: &Rc<Worker>, closing: &Accepting) {
    let door = closing.door.borrow();
    accept::take_queued(worker, &closing.socket, &door);
    door.close();
}

/// Ends all connections as soon as they can end, until none is left or the time is over.
async fn drain(
    worker: &Rc<Worker>,
    accepting: BTreeMap<Key, Accepting>,
    commands: &mut mpsc::UnboundedReceiver<Command>,
    at_most: Duration,
) {
    for open in accepting.values() {
        close(worker, open);
    }
    drop(accepting);
    worker.drain();
    let until = worker.clock.now() + at_most;
    loop {
        // First of all, connections that were just accepted get their turn.
        pause(&worker.clock, DRAIN_TICK).await;
        let over = worker.open() == 0 || worker.clock.now() >= until;
        if over || matches!(commands.try_recv(), Ok(Command::Stop)) {
            return;
        }
    }
}
