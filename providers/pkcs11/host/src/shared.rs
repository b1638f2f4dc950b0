//! What the workers share, and how each of them serves a request.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

use cryptoki::session::Session;

use crate::messages::{Answered, Asked, Output, Refused, Request, code};
use crate::operations::{decrypt, encrypt, find, generate};
use crate::refusals::own;
use crate::sessions::WorkerSession;
use crate::token::{self, Module};

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

    /// Serves a request with the session of a worker.
    pub(crate) fn serve(&self, worker: &mut WorkerSession, asked: Asked<Request>) -> Answered {
        let _busy = Busy::begin(&self.busy);
        let output = match asked.is_late() {
            true => Err(own(code::TOO_LATE)),
            false => self.perform(worker, &asked.request),
        };
        Answered {
            number: asked.number,
            output: output.unwrap_or_else(Output::Refused),
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
