//! The workers: threads that call the module, each with a session of its own.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Instant;

use cryptoki::session::Session;

use crate::messages::{Output, Refused, Request, code};
use crate::operations::{decrypt, encrypt, find, generate};
use crate::refusals::own;
use crate::sessions::WorkerSession;
use crate::token::{self, Module};

/// A request, and the time until which it may begin.
pub(crate) struct Job {
    pub(crate) number: u64,
    pub(crate) until: Instant,
    pub(crate) request: Request,
}

/// What the workers share.
pub(crate) struct Shared {
    module: OnceLock<Module>,
    /// The session of the login, which ends with the last session.
    login: Mutex<Option<Session>>,
    /// The number of calls under way.
    busy: AtomicUsize,
    not_hardened: Vec<String>,
}

impl Shared {
    pub(crate) const fn new(not_hardened: Vec<String>) -> Self {
        Self {
            module: OnceLock::new(),
            login: Mutex::new(None),
            busy: AtomicUsize::new(0),
            not_hardened,
        }
    }

    /// Ends the module's use, unless a call is under way: the standard does not define what becomes of that.
    pub(crate) fn finalize(&self) {
        if let Some(module) = self.module.get()
            && self.busy.load(Ordering::SeqCst) == 0
        {
            drop(module.context.clone().finalize());
        }
    }

    fn perform(&self, worker: &mut WorkerSession, request: &Request) -> Result<Output, Refused> {
        if let Request::Open { module, token, .. } = request {
            let (module, token) = token::open(module, token, self.not_hardened.clone())?;
            return match self.module.set(module) {
                Ok(()) => Ok(Output::Opened(token)),
                Err(_) => Err(own(code::BAD_REQUEST)),
            };
        }
        let module = self.module.get().ok_or_else(|| own(code::BAD_REQUEST))?;
        match request {
            Request::Open { .. } => Err(own(code::BAD_REQUEST)),
            Request::Login { pin } => {
                let mut login = self.login.lock().unwrap_or_else(PoisonError::into_inner);
                *login = Some(module.log_in(pin)?);
                Ok(Output::Done)
            }
            // A template with an empty id finds the objects without one.
            Request::Find { id } | Request::Generate { id, .. } | Request::Encrypt { id, .. } | Request::Decrypt { id, .. }
                if id.is_empty() =>
            {
                Err(own(code::NO_KEY))
            }
            Request::Find { id } => Ok(find(worker, module, id)?),
            Request::Generate { id, label, key } => Ok(generate(module, id, label, *key)?),
            Request::Encrypt {
                kind,
                id,
                mechanism,
                plaintext,
            } => Ok(encrypt(worker, module, (*kind, id), mechanism, plaintext)?),
            Request::Decrypt {
                kind,
                id,
                mechanism,
                ciphertext,
            } => Ok(decrypt(worker, module, (*kind, id), mechanism, ciphertext)?),
        }
    }
}

/// Counts a call under way.
struct Busy<'a>(&'a AtomicUsize);

impl<'a> Busy<'a> {
    fn begin(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::SeqCst);
        Self(count)
    }
}

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Serves jobs until there are no more; `answer` sends each one's output.
pub(crate) fn work(jobs: &Arc<Mutex<Receiver<Job>>>, shared: &Shared, answer: impl Fn(u64, Output)) {
    let mut worker = WorkerSession::default();
    loop {
        let job = jobs.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(job) = job else { return };
        let _busy = Busy::begin(&shared.busy);
        let output = if job.until < Instant::now() {
            Err(own(code::TOO_LATE))
        } else {
            shared.perform(&mut worker, &job.request)
        };
        answer(job.number, output.unwrap_or_else(Output::Refused));
    }
}
