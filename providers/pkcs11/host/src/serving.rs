//! The helper's life: from the inherited socket to its end.
//!
//! Each worker is a thread with a session of its own. It receives a request from the socket, calls the module and sends
//! the answer, so that no request passes from thread to thread. What waits for a session waits in the socket.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Signal, getpid, kill_process, kill_process_group};
use rustix::stdio::dup2_stdin;
use tokio::signal::unix::{SignalKind, signal};

use crate::hardening::harden;
use crate::messages::{Answered, Asked, Request};
use crate::packets::{self, Buffer};
use crate::sessions::WorkerSession;
use crate::shared::Shared;

/// The most calls of a module at once.
const MAX_SESSIONS: u16 = 64;
/// How long the module may take to end its use.
const FAREWELL: Duration = Duration::from_secs(1);

/// Serves the gateway over the socket that the process inherited as its standard input, until the gateway closes
/// it. Call it first thing in the process, within a Tokio runtime; it blocks, and ends the process itself.
///
/// # Errors
/// When the standard input is no socket for packets.
pub fn run() -> io::Result<()> {
    let not_hardened = harden();
    // A stop of the gateway's service, or Ctrl-C at its terminal, reaches all of its processes. The gateway finishes
    // the requests under way first, and then closes the socket. The handlers stay when the receivers are dropped.
    for kind in [SignalKind::terminate(), SignalKind::interrupt(), SignalKind::hangup()] {
        drop(signal(kind)?);
    }
    // A descriptor that no process inherits which the module starts.
    let socket = Arc::new(io::stdin().as_fd().try_clone_to_owned()?);
    packets::check(&socket)?;
    dup2_stdin(File::open("/dev/null")?)?;
    let shared = Arc::new(Shared::new(not_hardened));
    // Whatever ended it, the gateway starts another helper.
    drop(serve(&socket, &shared));
    end(shared)
}

/// Has workers serve requests until the socket is closed.
fn serve(socket: &Arc<OwnedFd>, shared: &Arc<Shared>) -> io::Result<()> {
    let Some(first) = Buffer::default().receive::<Asked<Request>>(socket)? else {
        return Ok(());
    };
    let Request::Open { sessions, .. } = first.request else {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "a request before the module is opened"));
    };
    let (generations, queue) = mpsc::channel();
    start(socket, shared, move |socket, shared| generate(socket, shared, &queue))?;
    let mut first = Some(first);
    for _ in 0..sessions.clamp(1, MAX_SESSIONS) {
        let (first, generations) = (first.take(), generations.clone());
        start(socket, shared, move |socket, shared| work(socket, shared, first, &generations))?;
    }
    until_closed(socket)
}

/// Waits until the gateway closes the socket, also while all workers are in calls of a module that hangs.
fn until_closed(socket: &OwnedFd) -> io::Result<()> {
    // The end is reported whatever is asked for.
    let mut closed = [PollFd::new(socket, PollFlags::empty())];
    rustix::io::retry_on_intr(|| poll(&mut closed, None))?;
    Ok(())
}

/// Ends the process when its thread panics: the request would never be answered.
struct EndOnPanic;

impl Drop for EndOnPanic {
    fn drop(&mut self) {
        if thread::panicking() {
            end_process();
        }
    }
}

/// Starts a thread that works until the socket is closed. If it cannot go on, it closes the socket.
fn start(
    socket: &Arc<OwnedFd>,
    shared: &Arc<Shared>,
    work: impl FnOnce(&OwnedFd, &Shared) -> io::Result<()> + Send + 'static,
) -> io::Result<()> {
    let (socket, shared) = (Arc::clone(socket), Arc::clone(shared));
    let works = move || {
        let _end = EndOnPanic;
        let _ = work(&socket, &shared);
        packets::close(&*socket);
    };
    thread::Builder::new().name("pkcs11".to_owned()).spawn(works)?;
    Ok(())
}

/// Serves requests, beginning with `first`. Those for keys go to the thread that generates.
fn work(socket: &OwnedFd, shared: &Shared, mut first: Option<Asked<Request>>, generations: &Sender<Asked<Request>>) -> io::Result<()> {
    let (mut session, mut buffer) = (WorkerSession::default(), Buffer::default());
    loop {
        let next = match first.take() {
            Some(first) => Some(first),
            None => buffer.receive(socket)?,
        };
        let Some(asked) = next else { return Ok(()) };
        match asked.request {
            Request::Generate { .. } => generations.send(asked).map_err(|_| io::Error::other("no thread that generates"))?,
            Request::Open { .. } | Request::Login { .. } | Request::Find { .. } | Request::Encrypt { .. } | Request::Decrypt { .. } => {
                answer(socket, shared.serve(&mut session, asked))?;
            }
        }
    }
}

/// Generates keys, one at a time, so that a repeated generation finds what the first one made, and so that slow ones leave
/// sessions to the calls.
fn generate(socket: &OwnedFd, shared: &Shared, queue: &Receiver<Asked<Request>>) -> io::Result<()> {
    let mut session = WorkerSession::default();
    queue.iter().try_for_each(|asked| answer(socket, shared.serve(&mut session, asked)))
}

/// Sends an answer.
///
/// # Errors
/// The socket's; that a module returned more than any request needs.
fn answer(socket: &OwnedFd, answered: Answered) -> io::Result<()> {
    let packet = packets::encode(&answered)?;
    drop(answered);
    packets::send(socket, &packet)
}

/// Lets the module end its sessions, and ends the process.
fn end(shared: Arc<Shared>) -> io::Result<()> {
    let (tell, told) = mpsc::channel();
    let finalizing = thread::Builder::new().spawn(move || {
        shared.finalize();
        let _ = tell.send(());
    });
    if finalizing.is_ok() {
        let _ = told.recv_timeout(FAREWELL);
    }
    end_process();
    Ok(())
}

/// Ends the process without its exit handlers, since those of a module that hangs may hang too, and what the module
/// started: the gateway makes the process the leader of a group of its own.
fn end_process() {
    let _ = kill_process_group(getpid(), Signal::KILL);
    let _ = kill_process(getpid(), Signal::KILL);
}
