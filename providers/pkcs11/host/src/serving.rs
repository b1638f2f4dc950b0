//! The helper's life: from the inherited socket to its end.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Signal, getpid, kill_process, kill_process_group};
use rustix::stdio::dup2_stdin;
use tokio::signal::unix::{SignalKind, signal};

use crate::frames;
use crate::hardening::harden;
use crate::jobs::{Job, Shared, work};
use crate::messages::{Answered, Asked, Output, Request};

/// The most calls of a module at once.
const MAX_SESSIONS: u16 = 64;
/// How long the module may take to end its use.
const FAREWELL: Duration = Duration::from_secs(1);

/// Serves the gateway over the socket that the process inherited as its standard input, until the gateway closes
/// it. Call it first thing in the process, within a Tokio runtime; it blocks, and ends the process itself.
///
/// # Errors
/// When the standard input is no socket.
pub fn run() -> io::Result<()> {
    let not_hardened = harden();
    // A stop of the gateway's service, or Ctrl-C at its terminal, reaches all of its processes. The gateway finishes
    // the requests under way first, and then closes the socket. The handlers stay when the receivers are dropped.
    for kind in [SignalKind::terminate(), SignalKind::interrupt(), SignalKind::hangup()] {
        drop(signal(kind)?);
    }
    // A descriptor that no process inherits which the module starts.
    let socket = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
    socket.peer_addr()?;
    dup2_stdin(File::open("/dev/null")?)?;
    let shared = Arc::new(Shared::new(not_hardened));
    // Whatever ended it, the gateway starts another helper.
    drop(serve(&socket, &shared));
    end(shared)
}

/// Reads requests until the socket is closed.
fn serve(socket: &UnixStream, shared: &Arc<Shared>) -> io::Result<()> {
    let mut from = socket;
    let mut jobs = None;
    while let Some(message) = frames::read(&mut from)? {
        let asked: Asked<Request> = frames::decode(&message)?;
        if let (Request::Open { sessions, .. }, None) = (&asked.request, &jobs) {
            jobs = Some(start_workers(*sessions, socket, shared)?);
        }
        let Some(jobs) = &jobs else {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "a request before the module is opened"));
        };
        let queue = match asked.request {
            Request::Generate { .. } => &jobs.generations,
            Request::Open { .. } | Request::Login { .. } | Request::Find { .. } | Request::Encrypt { .. } | Request::Decrypt { .. } => {
                &jobs.calls
            }
        };
        let job = Job {
            number: asked.number,
            until: Instant::now() + Duration::from_millis(asked.patience.into()),
            request: asked.request,
        };
        queue.send(job).map_err(|_| io::Error::other("no worker"))?;
    }
    Ok(())
}

/// The queues of the workers.
struct Queues {
    calls: Sender<Job>,
    /// Served one at a time, so that a repeated generation finds what the first one made, and so that slow ones leave
    /// sessions to the calls.
    generations: Sender<Job>,
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

fn start_workers(sessions: u16, socket: &UnixStream, shared: &Arc<Shared>) -> io::Result<Queues> {
    let to = Arc::new(Mutex::new(socket.try_clone()?));
    let start = |workers: u16| {
        let (sender, receiver) = mpsc::channel();
        let receiver = Arc::new(Mutex::new(receiver));
        for _ in 0..workers {
            let (receiver, to, shared) = (Arc::clone(&receiver), Arc::clone(&to), Arc::clone(shared));
            thread::Builder::new().name("pkcs11".to_owned()).spawn(move || {
                let _end = EndOnPanic;
                work(&receiver, &shared, |number, output| answer(&to, number, output));
            })?;
        }
        io::Result::Ok(sender)
    };
    Ok(Queues {
        calls: start(sessions.clamp(1, MAX_SESSIONS))?,
        generations: start(1)?,
    })
}

fn answer(to: &Mutex<UnixStream>, number: u64, output: Output) {
    let answered = Answered { number, output };
    let Ok(frame) = frames::encode(&answered) else {
        // A module that returns more than any request needs.
        return end_process();
    };
    let mut to = to.lock().unwrap_or_else(PoisonError::into_inner);
    // A gateway that is gone closes the socket, which ends the helper.
    drop(io::Write::write_all(&mut *to, &frame));
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
