//! The helper process of a connection, and the calls that it serves.

use std::collections::{BTreeMap, HashMap};
use std::ffi::OsString;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use claviger_pkcs11_host::frames;
use claviger_pkcs11_host::messages::{Answered, Asked, Output, Request};
use parking_lot::Mutex;
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::process::{Child, Command};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};
use zeroize::Zeroizing;

use crate::codes::HELPER_ENDED;
use crate::errors::{CallError, Refusal, refused};

/// How long after the time of its kind a call without an answer shows that the helper hangs.
const GRACE: Duration = Duration::from_secs(2);
/// How long the generation of a key may wait for its turn and take.
pub(crate) const GENERATION: Duration = Duration::from_secs(60);
/// How often a call that waits looks whether the helper hangs.
const LOOK: Duration = Duration::from_secs(1);
/// The most frames that wait for the socket.
const QUEUE: usize = 64;

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

type Frame = Zeroizing<Vec<u8>>;

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
    frames: mpsc::Sender<Frame>,
    calls: Arc<Mutex<Calls>>,
    tasks: [JoinHandle<()>; 2],
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
        let (ours, theirs) = StdUnixStream::pair()?;
        ours.set_nonblocking(true)?;
        let child = Command::new(&program.program)
            .arg0("claviger")
            .args(&program.arguments)
            .env_clear()
            .envs(environment)
            .current_dir("/")
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            // What a module prints is nothing that the gateway's log can answer for.
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // Keys that a terminal sends to the gateway are not for the helper.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()?;
        let (from, to) = UnixStream::from_std(ours)?.into_split();
        let group = child.id().and_then(|id| Pid::from_raw(id.try_into().ok()?));
        let calls = Arc::new(Mutex::new(Calls { group, ..Calls::default() }));
        let (frames, queue) = mpsc::channel(QUEUE);
        let reading = tokio::spawn(read(from, child, Arc::clone(&calls)));
        let writing = tokio::spawn(write(to, queue));
        Ok(Self {
            frames,
            calls,
            tasks: [reading, writing],
        })
    }

    /// Kills the helper. Calls under way end without an answer.
    fn end(&self) {
        self.calls.lock().end();
        // The first task has the process, which is killed when it is dropped.
        for task in &self.tasks {
            task.abort();
        }
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
        let (tell, told) = oneshot::channel();
        // First the place in the queue, so that a caller that goes away meanwhile leaves no call behind that nobody sent.
        let place = self.frames.reserve().await.map_err(|_| ended())?;
        let generates = matches!(request, Request::Generate { .. });
        let number = self.begin(tell, longest, generates).ok_or_else(ended)?;
        let asked = Asked {
            number,
            patience: u32::try_from(patience.as_millis()).unwrap_or(u32::MAX),
            request,
        };
        let frame = frames::encode(&asked).map_err(|error| {
            self.calls.lock().waiting.remove(&number);
            CallError::Unbuilt(error.to_string())
        })?;
        place.send(frame);
        drop(asked);
        match self.answer(told).await {
            Some(Output::Refused(why)) => Err(refused(why)),
            Some(output) => Ok(output),
            None => Err(CallError::Unreachable("the helper process ended".to_owned())),
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
    fn begin(&self, tell: oneshot::Sender<Output>, longest: Duration, generates: bool) -> Option<u64> {
        let mut calls = self.calls.lock();
        if calls.ended {
            return None;
        }
        calls.last += 1;
        let number = calls.last;
        let now = Instant::now();
        let waiting = Waiting {
            tell,
            overdue: now + longest + GRACE,
            latest: now + longest.max(GENERATION) + GRACE,
            generates,
        };
        calls.waiting.insert(number, waiting);
        Some(number)
    }
}

fn ended() -> CallError {
    CallError::Refused(Refusal::own(HELPER_ENDED))
}

/// Sends frames until the helper is gone. Its own task, so that no frame is cut where a caller goes away.
async fn write(mut to: OwnedWriteHalf, mut queue: mpsc::Receiver<Frame>) {
    while let Some(frame) = queue.recv().await {
        if to.write_all(&frame).await.is_err() {
            return;
        }
    }
}

/// Takes answers until the helper ends, and then the helper's exit status.
async fn read(mut from: OwnedReadHalf, mut child: Child, calls: Arc<Mutex<Calls>>) {
    while let Ok(answered) = next(&mut from).await {
        let waiting = calls.lock().take(answered.number);
        if let Some(waiting) = waiting {
            // Its caller may have gone.
            drop(waiting.tell.send(answered.output));
        }
    }
    // It may have sent what makes no sense, and still run.
    calls.lock().end();
    drop(child.kill().await);
}

async fn next(from: &mut OwnedReadHalf) -> io::Result<Answered> {
    let mut head = [0; 4];
    from.read_exact(&mut head).await?;
    let mut message = Zeroizing::new(vec![0; frames::length(head)?]);
    from.read_exact(&mut message).await?;
    frames::decode(&message)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test stops where an expectation fails")]
mod tests {
    use std::future::pending;
    use std::sync::Arc;
    use std::time::Duration;

    use claviger_pkcs11_host::messages::Request;
    use parking_lot::Mutex;
    use tokio::sync::{mpsc, oneshot};
    use tokio::time::{advance, timeout};

    use super::{Calls, GENERATION, GRACE, Helper};
    use crate::codes::HELPER_ENDED;

    const BUDGET: Duration = Duration::from_millis(250);

    /// A helper that reads no frame, after the first `room`.
    fn silent(room: usize) -> Helper {
        let (frames, queue) = mpsc::channel(room);
        let unread = async move {
            let _queue = queue;
            pending().await
        };
        Helper {
            frames,
            calls: Arc::new(Mutex::new(Calls::default())),
            tasks: [tokio::spawn(pending()), tokio::spawn(unread)],
        }
    }

    #[tokio::test(start_paused = true)]
    async fn generations_one_after_the_other_hide_no_call_that_hangs() {
        let helper = silent(1);
        let (tell, _told) = oneshot::channel();
        helper.begin(tell, BUDGET, false).unwrap();
        let (tell, _told) = oneshot::channel();
        let mut generation = helper.begin(tell, GENERATION, true).unwrap();
        for seconds in 0..70 {
            assert_eq!(helper.is_hung(), seconds >= (GENERATION + GRACE).as_secs(), "{seconds} s");
            advance(Duration::from_secs(1)).await;
            // The next one waits already when one is done.
            let (tell, _told) = oneshot::channel();
            let next = helper.begin(tell, GENERATION, true).unwrap();
            helper.calls.lock().take(generation).unwrap();
            generation = next;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_helper_that_reads_nothing_is_ended_by_the_next_call() {
        let helper = silent(1);
        let find = || Request::Find { id: vec![1].into() };
        // Its caller goes away; its frame stays in the queue.
        assert!(timeout(BUDGET, helper.call(find(), BUDGET, BUDGET)).await.is_err());
        assert!(timeout(BUDGET, helper.call(find(), BUDGET, BUDGET)).await.is_err());
        advance(BUDGET + GRACE).await;
        let error = timeout(BUDGET, helper.call(find(), BUDGET, BUDGET)).await.unwrap().unwrap_err();
        assert_eq!(error.refusal().unwrap().code, HELPER_ENDED);
    }
}
