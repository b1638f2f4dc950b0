//! The helper of a connection that is logged in to its token: started when it is first needed, and replaced when
//! it has ended or the token has forgotten the login.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use claviger_pkcs11_host::messages::{Output, Request, Sensitive, Token};
use claviger_provider::kit::secrets::{ConnectionSecrets, SecretsError, secret};
use claviger_provider::kit::session::identity::{Lockout, Membership};
use claviger_provider::kit::session::{CredentialSource, Lifetime, Standing, Term};
use claviger_provider::kit::settings::Secrets;
use claviger_provider::{BackgroundTrace, CallResult, CallSink, Secret};
use parking_lot::Mutex;
use zeroize::Zeroizing;

use crate::codes::{LOGIN_UNANSWERED, PIN_REFUSED_BEFORE};
use crate::errors::{CallError, Refusal};
use crate::helper::{Helper, HelperProgram};
use crate::pin_latch::{Mark, PinLatch};
use crate::settings::{PIN, Settings};

/// How long a call of a login may wait for its turn in the helper, which has nothing else to do.
const PATIENCE: Duration = Duration::from_secs(10);
/// How many logins with one PIN may stay without an answer. Each may count as a wrong PIN, and tokens lock
/// themselves after three.
const UNANSWERED: u32 = 2;
/// A refused PIN is not tried again by another connection either.
pub(crate) const LOCKOUT: Lockout = Lockout {
    refusals: 1,
    pause: Duration::from_secs(24 * 3600),
};

/// A helper that is logged in.
pub(crate) struct LoggedIn {
    pub(crate) helper: Helper,
    pub(crate) token: Token,
}

impl Lifetime for LoggedIn {
    fn term(&self) -> Term {
        Term::ENDLESS
    }
}

/// Starts helpers, and logs them in.
pub(crate) struct HelperSource {
    pub(crate) program: HelperProgram,
    pub(crate) settings: Settings,
    pub(crate) secrets: ConnectionSecrets,
    pub(crate) latch: PinLatch,
    pub(crate) membership: Membership<Refusal>,
    pub(crate) trace: BackgroundTrace,
    pub(crate) unanswered: Unanswered,
}

/// The logins that no answer came for, with the secrets of the last one.
#[derive(Default)]
pub(crate) struct Unanswered {
    secrets: Mutex<Option<Arc<Secrets>>>,
    count: AtomicU32,
}

impl Unanswered {
    /// Counts a login that begins; `false` if too many with these secrets have no answer.
    fn begin(&self, secrets: &Arc<Secrets>) -> bool {
        let mut last = self.secrets.lock();
        if last.as_ref().is_none_or(|last| !Arc::ptr_eq(last, secrets)) {
            *last = Some(Arc::clone(secrets));
            self.count.store(0, Ordering::Relaxed);
        }
        self.count.fetch_add(1, Ordering::Relaxed) < UNANSWERED
    }

    fn answered(&self) {
        self.count.store(0, Ordering::Relaxed);
    }
}

impl CredentialSource for HelperSource {
    type Credential = LoggedIn;
    type Refusal = Refusal;

    async fn fetch(&self, _: Option<&LoggedIn>) -> Result<LoggedIn, CallError> {
        self.logged_in().await.map_err(|error| match error {
            error @ CallError::NoCredential { .. } => error,
            other => other.in_login(),
        })
    }

    async fn standing(&self, _: &LoggedIn) -> Result<Standing, CallError> {
        Ok(Standing::Replaceable)
    }

    fn membership(&self) -> Option<&Membership<Refusal>> {
        Some(&self.membership)
    }

    fn files(&self) -> Vec<PathBuf> {
        self.secrets.paths()
    }
}

fn unstored(error: &claviger_provider::Error) -> CallError {
    CallError::Unreachable(format!("the refused PINs cannot be read or written: {error}"))
}

impl HelperSource {
    /// Starts a helper, opens the module and logs in.
    async fn logged_in(&self) -> Result<LoggedIn, CallError> {
        let secrets = self.secrets.read().await.map_err(|why| CallError::NoSource {
            advice: SecretsError::ADVICE,
            cause: why.to_string(),
        })?;
        let pin = secret(&secrets, PIN).ok_or_else(|| CallError::Unbuilt("a connection without its PIN".to_owned()))?;
        let helper = Helper::start(&self.program, &self.settings.environment).map_err(|why| CallError::NoSource {
            advice: "The gateway cannot start the helper process of the connection: its log has the reason.",
            cause: why.to_string(),
        })?;
        let token = self.open(&helper).await?;
        if !token.not_hardened.is_empty() {
            tracing::warn!(missing = ?token.not_hardened, "the memory of a PKCS#11 helper is not protected in full");
        }
        self.membership
            .login(&secrets, self.log_in(&helper, &token, &secrets, &pin))
            .await?;
        Ok(LoggedIn { helper, token })
    }

    /// Makes a call that serves no single operation.
    async fn call(&self, helper: &Helper, operation: &'static str, request: Request) -> Result<Output, CallError> {
        let attempt = CallSink::from(&self.trace).begin(operation);
        let result = helper.call(request, PATIENCE).await;
        attempt.finish(None, CallResult::of(&result, CallError::result));
        result
    }

    async fn open(&self, helper: &Helper) -> Result<Token, CallError> {
        let request = Request::Open {
            module: self.settings.module.clone(),
            token: self.settings.token.name(),
            sessions: self.settings.sessions,
        };
        let Output::Opened(token) = self.call(helper, "C_Initialize", request).await? else {
            return Err(CallError::MalformedResponse("token"));
        };
        Ok(token)
    }

    /// Logs in, unless the token refused the PIN before.
    async fn log_in(&self, helper: &Helper, token: &Token, secrets: &Arc<Secrets>, pin: &Secret) -> Result<(), CallError> {
        let mark = self.mark(token, pin).await?;
        if token.is_pin_locked {
            return Err(CallError::Refused(Refusal::own("CKR_PIN_LOCKED")));
        }
        if !self.unanswered.begin(secrets) {
            return Err(CallError::Refused(Refusal::own(LOGIN_UNANSWERED)));
        }
        let request = Request::Login {
            pin: Sensitive::new(Zeroizing::new(pin.expose().to_vec())),
        };
        let result = self.call(helper, "C_Login", request).await;
        match &result {
            Ok(_) => self.unanswered.answered(),
            Err(CallError::Refused(refusal)) => {
                self.unanswered.answered();
                if matches!(refusal.code.as_str(), "CKR_PIN_INCORRECT" | "CKR_PIN_INVALID" | "CKR_PIN_LEN_RANGE") {
                    self.latch.refuse(&mark).await.map_err(|error| {
                        tracing::error!(%error, "a refused PIN cannot be stored: a gateway that is restarted will try it once more");
                        unstored(&error)
                    })?;
                }
            }
            Err(_) => {}
        }
        let Output::Done = result? else {
            return Err(CallError::MalformedResponse("login"));
        };
        Ok(())
    }

    /// The mark of the PIN.
    ///
    /// # Errors
    /// [`PIN_REFUSED_BEFORE`]; the store's.
    async fn mark(&self, token: &Token, pin: &Secret) -> Result<Mark, CallError> {
        let mark = self.latch.mark(&self.settings.module, &token.serial, pin).await;
        let mark = mark.map_err(|error| unstored(&error))?;
        match self.latch.is_refused(&mark).await {
            Ok(false) => Ok(mark),
            Ok(true) => Err(CallError::Refused(Refusal::own(PIN_REFUSED_BEFORE))),
            Err(error) => Err(unstored(&error)),
        }
    }
}
