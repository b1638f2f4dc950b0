//! The helper process of a connection, and the calls that it serves.

use std::collections::{BTreeMap, HashMap};
use std::ffi::OsString;
use std::io;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use claviger_pkcs11_host::messages::{Answered, Asked, Output, Request};
use claviger_pkcs11_host::packets::{self, Buffer};
use parking_lot::Mutex;
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::Interest;
use tokio::net::UnixDatagram;
use tokio::process::{Child, Command};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};

use crate::codes::HELPER_ENDED;
use crate::errors::{CallError, Refusal, refused};

/// How long after the time of its kind a call without an answer shows that the helper hangs.
const GRACE: Duration = Duration::from_secs(2);
/// How long the generation of a key may wait for its turn and take.
pub(crate) const GENERATION: Duration = Duration::from_secs(60);
/// How often a call that waits looks whether the helper hangs.
const LOOK: Duration = Duration::from_secs(1);

/// How the helper is started.
#[derive(Debug, Clone)]
pub struct HelperProgram {
    program: PathBuf,
    arguments: Vec<OsString>,
}

impl HelperProgram {
    /// This process's own program, with these arguments. It is started from the kernel's link to it, so that
    /// it is the same one even if its file was replaced since.
    pub fn own(arguments: &[&str]) -> Self {
        Self {
            program: PathBuf::from("/proc/self/exe"),
            arguments: arguments.iter().map(OsString::from).collect(),
        }
    }
}

/// A call under way.
struct Waiting {
    /// Its caller may have gone.
    tell: oneshot::Sender<Output>,
    /// When the helper counts as hung.
    overdue: Instant,
    /// The same, of a call that waits for generations: however many come one after the other.
    latest: Instant,
    /// Whether it generates a key. Some modules serve nothing else meanwhile.
    generates: bool,
}

#[derive(Default)]
struct Calls {
    last: u64,
    waiting: HashMap<u64, Waiting>,
    ended: bool,
    /// The helper, which leads the group of the processes that its module started. `None` once they were killed: then its
    /// id may be another's.
    group: Option<Pid>,
}

impl Calls {
    /// The number of another call.
    const fn number(&mut self) -> u64 {
        self.last += 1;
        self.last
    }

    /// When the helper counts as hung unless it answers: while it generates a key, all calls may wait for that.
    fn overdue(&self) -> Option<Instant> {
        let generates = self.waiting.values().any(|waiting| waiting.generates);
        let of = |waiting: &Waiting| if generates { waiting.latest } else { waiting.overdue };
        self.waiting.values().map(of).min()
    }

    /// Takes a call that is answered. Those that waited for a generation have time again, as long as that may take.
    fn take(&mut self, number: u64) -> Option<Waiting> {
        let taken = self.waiting.remove(&number)?;
        if taken.generates {
            let again = Instant::now() + GRACE;
            for waiting in self.waiting.values_mut() {
                waiting.overdue = waiting.overdue.max(again.min(waiting.latest));
            }
        }
        Some(taken)
    }

    /// Ends the calls under way without an answer, and kills the helper with what its module started.
    fn end(&mut self) {
        self.ended = true;
        self.waiting.clear();
        if let Some(group) = self.group.take() {
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

/// A helper that runs. It is killed when this is dropped.
pub(crate) struct Helper {
    /// [`packets::pair`]; the type is the nearest that Tokio has. Requests that wait for a session wait in its buffer, and
    /// further ones for room in that.
    socket: Arc<UnixDatagram>,
    calls: Arc<Mutex<Calls>>,
    receiving: JoinHandle<()>,
}

impl Drop for Helper {
    fn drop(&mut self) {
        self.end();
    }
}

impl Helper {
    /// Starts a helper whose only environment is `environment`.
    ///
    /// # Errors
    /// The system's.
    pub(crate) fn start(program: &HelperProgram, environment: &BTreeMap<String, String>) -> io::Result<Self> {
        let (ours, theirs) = packets::pair()?;
        let child = Command::new(&program.program)
            .arg0("claviger")
            .args(&program.arguments)
            .env_clear()
            .envs(environment)
            .current_dir("/")
            .stdin(Stdio::from(theirs))
            // What a module prints is nothing that the gateway's log can answer for.
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // Keys that a terminal sends to the gateway are not for the helper.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()?;
        let socket = Arc::new(UnixDatagram::from_std(ours.into())?);
        let group = child.id().and_then(|id| Pid::from_raw(id.try_into().ok()?));
        let calls = Arc::new(Mutex::new(Calls { group, ..Calls::default() }));
        let receiving = tokio::spawn(receive(Arc::clone(&socket), child, Arc::clone(&calls)));
        Ok(Self { socket, calls, receiving })
    }

    /// Kills the helper. Calls under way end without an answer.
    fn end(&self) {
        self.calls.lock().end();
        // Who waits for room learns it also of a helper that a device's driver keeps from ending.
        packets::close(&*self.socket);
        // The task has the process, which is killed when it is dropped.
        self.receiving.abort();
    }

    /// Makes a call, which may wait for its turn in the helper for as long as `patience`, its caller's. Calls of its kind
    /// take at most `longest`, whatever patience a caller has. A caller that goes away ends nothing: the module cannot be
    /// interrupted.
    ///
    /// # Errors
    /// `HELPER_ENDED` if the helper did not get the request: it has ended, or hangs. `Unreachable` if it ended before its answer.
    pub(crate) async fn call(&self, request: Request, patience: Duration, longest: Duration) -> Result<Output, CallError> {
        if self.is_hung() {
            self.end();
        }
        let told = self.send(request, patience, longest).await?;
        match self.answer(told).await {
            Some(Output::Refused(why)) => Err(refused(why)),
            Some(output) => Ok(output),
            None => Err(CallError::Unreachable("the helper process ended".to_owned())),
        }
    }

    /// Sends a request once the socket has room for it. Returns where its answer arrives. A caller that goes away meanwhile
    /// leaves no call behind that nobody sent.
    async fn send(&self, request: Request, patience: Duration, longest: Duration) -> Result<oneshot::Receiver<Output>, CallError> {
        let generates = matches!(request, Request::Generate { .. });
        let asked = Asked::new(self.calls.lock().number(), patience, request);
        let packet = packets::encode(&asked).map_err(|error| CallError::Unbuilt(error.to_string()))?;
        let number = asked.number;
        drop(asked);
        loop {
            self.socket.writable().await.map_err(|_| ended())?;
            let (tell, told) = oneshot::channel();
            self.begin(number, tell, longest, generates).ok_or_else(ended)?;
            let sent = self.socket.try_io(Interest::WRITABLE, || packets::send(&*self.socket, &packet));
            let Err(error) = sent else { return Ok(told) };
            self.calls.lock().waiting.remove(&number);
            match error.kind() {
                io::ErrorKind::WouldBlock => {}
                io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset | io::ErrorKind::NotConnected => return Err(ended()),
                // As for want of memory: nothing of the helper's.
                _ => return Err(CallError::Unbuilt(error.to_string())),
            }
        }
    }

    /// Waits for an answer; `None` if the helper ends before it. Ends a helper that hangs, at whichever call: all that
    /// wait may wait for that one.
    async fn answer(&self, mut told: oneshot::Receiver<Output>) -> Option<Output> {
        loop {
            match timeout(LOOK, &mut told).await {
                Ok(answer) => return answer.ok(),
                Err(_) if self.is_hung() => self.end(),
                Err(_) => {}
            }
        }
    }

    /// Whether a call has no answer long after its time.
    fn is_hung(&self) -> bool {
        self.calls.lock().overdue().is_some_and(|overdue| overdue <= Instant::now())
    }

    /// Notes a call; `None` if the helper has ended.
    fn begin(&self, number: u64, tell: oneshot::Sender<Output>, longest: Duration, generates: bool) -> Option<()> {
        let mut calls = self.calls.lock();
        if calls.ended {
            return None;
        }
        let now = Instant::now();
        let waiting = Waiting {
            tell,
            overdue: now + longest + GRACE,
            latest: now + longest.max(GENERATION) + GRACE,
            generates,
        };
        calls.waiting.insert(number, waiting);
        Some(())
    }
}

fn ended() -> CallError {
    CallError::Refused(Refusal::own(HELPER_ENDED))
}

/// Takes answers until the helper ends, and then the helper's exit status.
async fn receive(socket: Arc<UnixDatagram>, mut child: Child, calls: Arc<Mutex<Calls>>) {
    let mut buffer = Buffer::default();
    while let Ok(Some(answered)) = socket.async_io(Interest::READABLE, || buffer.receive(&*socket)).await {
        let Answered { number, output } = answered;
        // Each call waits until it is answered, also one whose caller has gone: a helper answers no other.
        let Some(waiting) = calls.lock().take(number) else { break };
        drop(waiting.tell.send(output));
    }
    // It may have sent what makes no sense, and still run.
    calls.lock().end();
    drop(child.kill().await);
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test stops where an expectation fails")]
mod tests {
    use std::future::pending;
    use std::os::fd::OwnedFd;
    use std::sync::Arc;
    use std::time::Duration;

    use claviger_pkcs11_host::messages::{Answered, Output, Request};
    use claviger_pkcs11_host::packets;
    use parking_lot::Mutex;
    use tokio::net::UnixDatagram;
    use tokio::process::Command;
    use tokio::sync::oneshot;
    use tokio::time::{advance, timeout};

    use super::{Calls, GENERATION, GRACE, Helper, receive};
    use crate::codes::HELPER_ENDED;

    const BUDGET: Duration = Duration::from_millis(250);

    /// A helper that receives nothing, and its side of the socket.
    fn silent() -> (Helper, OwnedFd) {
        let (ours, theirs) = packets::pair().unwrap();
        let helper = Helper {
            socket: Arc::new(UnixDatagram::from_std(ours.into()).unwrap()),
            calls: Arc::new(Mutex::new(Calls::default())),
            receiving: tokio::spawn(pending()),
        };
        (helper, theirs)
    }

    fn begin(helper: &Helper, longest: Duration, generates: bool) -> u64 {
        let number = helper.calls.lock().number();
        let (tell, _told) = oneshot::channel();
        helper.begin(number, tell, longest, generates).unwrap();
        number
    }

    #[tokio::test]
    async fn a_helper_that_answers_what_nobody_asked_is_ended() {
        let (ours, theirs) = packets::pair().unwrap();
        let socket = Arc::new(UnixDatagram::from_std(ours.into()).unwrap());
        let child = Command::new("sleep").arg("60").kill_on_drop(true).spawn().unwrap();
        let calls = Arc::new(Mutex::new(Calls::default()));
        let lie = Answered {
            number: 7,
            output: Output::Done,
        };
        packets::send(&theirs, &packets::encode(&lie).unwrap()).unwrap();
        timeout(GENERATION, receive(socket, child, Arc::clone(&calls))).await.unwrap();
        assert!(calls.lock().ended);
    }

    #[tokio::test(start_paused = true)]
    async fn generations_one_after_the_other_hide_no_call_that_hangs() {
        let (helper, _theirs) = silent();
        begin(&helper, BUDGET, false);
        let mut generation = begin(&helper, GENERATION, true);
        for seconds in 0..70 {
            assert_eq!(helper.is_hung(), seconds >= (GENERATION + GRACE).as_secs(), "{seconds} s");
            advance(Duration::from_secs(1)).await;
            // The next one waits already when one is done.
            let next = begin(&helper, GENERATION, true);
            helper.calls.lock().take(generation).unwrap();
            generation = next;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_helper_that_receives_nothing_is_ended_by_the_next_call() {
        let (helper, _theirs) = silent();
        let find = || Request::Find { id: vec![1].into() };
        // Their callers go away. The request of the first one is sent; the second one finds no room.
        assert!(timeout(BUDGET, helper.call(find(), BUDGET, BUDGET)).await.is_err());
        while packets::send(&*helper.socket, &[0; 1024]).is_ok() {}
        assert!(timeout(BUDGET, helper.call(find(), BUDGET, BUDGET)).await.is_err());
        assert_eq!(helper.calls.lock().waiting.len(), 1, "a call that nobody sent is left behind");
        advance(BUDGET + GRACE).await;
        let error = timeout(BUDGET, helper.call(find(), BUDGET, BUDGET)).await.unwrap().unwrap_err();
        assert_eq!(error.refusal().unwrap().code, HELPER_ENDED);
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_for_room_learns_that_the_helper_ended() {
        let (helper, _theirs) = silent();
        while packets::send(&*helper.socket, &[0; 1024]).is_ok() {}
        let call = helper.call(Request::Find { id: vec![1].into() }, BUDGET, BUDGET);
        let end = async { helper.end() };
        let (called, ()) = tokio::join!(timeout(BUDGET, call), end);
        assert_eq!(called.unwrap().unwrap_err().refusal().unwrap().code, HELPER_ENDED);
    }
}
