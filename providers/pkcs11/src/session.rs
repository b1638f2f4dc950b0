//! The helper of a connection that is logged in to its token: started when it is first needed, and replaced when
//! it has ended or the token has forgotten the login.

use std::path::PathBuf;
use std::time::Duration;

use claviger_pkcs11_host::messages::{Output, Request, Sensitive, Token};
use claviger_provider::kit::call_error::Refusal as _;
use claviger_provider::kit::secrets::{ConnectionSecrets, SecretsError, secret};
use claviger_provider::kit::session::identity::{Lockout, Membership};
use claviger_provider::kit::session::{CredentialSource, Lifetime, Standing, Term};
use claviger_provider::{BackgroundTrace, CallResult, CallSink, Secret, SeverSwitch};
use zeroize::Zeroizing;

use crate::codes::{PIN_REFUSED_BEFORE, PIN_UNANSWERED};
use crate::errors::{CallError, Refusal};
use crate::helper::{Helper, HelperProgram};
use crate::pin_latch::{Evidence, Mark, PinLatch};
use crate::settings::{PIN, Settings};

/// How long a call of a login may wait for its turn in the helper, which has nothing else to do.
const PATIENCE: Duration = Duration::from_secs(10);
/// A refused PIN is in the latch, and is not sent again. This is for logins without a clear answer: each may count as a wrong
/// PIN, and tokens lock themselves after three. The latch decides which of the pauses it is.
pub(crate) const LOCKOUT: Lockout = Lockout {
    refusals: 2,
    pause: Duration::from_secs(24 * 3600),
    unclear_pause: Duration::from_secs(60),
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
    /// [`Settings::one_module`].
    pub(crate) module: String,
    pub(crate) secrets: ConnectionSecrets,
    pub(crate) latch: PinLatch,
    pub(crate) membership: Membership<Refusal>,
    pub(crate) trace: BackgroundTrace,
    pub(crate) switch: SeverSwitch,
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
        let mark = self.latch.mark(&self.module, &token.serial, &pin).await;
        let mark = mark.map_err(|error| unstored(&error))?;
        let _turn = self.membership.waits().during(self.latch.turn(&token.serial)).await;
        self.membership
            .login(&secrets, self.takes(&token, &mark), self.log_in(&helper, &mark, &pin))
            .await?;
        Ok(LoggedIn { helper, token })
    }

    /// Makes a call that serves no single operation.
    async fn call(&self, helper: &Helper, operation: &'static str, request: Request) -> Result<Output, CallError> {
        let attempt = CallSink::from(&self.trace).begin(operation);
        let result = helper.call(request, PATIENCE, PATIENCE).await;
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

    /// Whether the token takes a login with the PIN of this mark.
    ///
    /// # Errors
    /// [`PIN_REFUSED_BEFORE`]; [`PIN_UNANSWERED`]; that the PIN is locked; the store's.
    async fn takes(&self, token: &Token, mark: &Mark) -> Result<(), CallError> {
        let refused = |code| Err(CallError::Refused(Refusal::own(code)));
        match self.latch.is_refused(mark).await {
            Ok(true) => refused(PIN_REFUSED_BEFORE),
            Ok(false) if token.is_pin_locked => refused("CKR_PIN_LOCKED"),
            Ok(false) => match self.latch.is_paused(mark, Evidence::of(token.has_wrong_pin), LOCKOUT).await {
                Ok(true) => refused(PIN_UNANSWERED),
                Ok(false) => Ok(()),
                Err(error) => Err(unstored(&error)),
            },
            Err(error) => Err(unstored(&error)),
        }
    }

    /// Logs in. A refused PIN is latched before this returns.
    async fn log_in(&self, helper: &Helper, mark: &Mark, pin: &Secret) -> Result<(), CallError> {
        // Not sent, so not one that may count.
        let unnoted = |error: claviger_provider::Error| CallError::Unbuilt(format!("the login cannot be noted: {error}"));
        let sent = self.latch.send(mark, &self.switch).await.map_err(unnoted)?;
        let request = Request::Login {
            pin: Sensitive::new(Zeroizing::new(pin.expose().to_vec())),
        };
        let result = self.call(helper, "C_Login", request).await;
        let stored = match &result {
            Ok(_) => sent.accepted().await,
            Err(CallError::Refused(refusal)) if refusal.is_of_pin() => sent.refused().await,
            Err(CallError::Refused(refusal)) if !refusal.may_be_counted() => sent.not_tried().await,
            Err(CallError::Refused(refusal)) => sent.unclear(refusal.evidence).await,
            Err(_) => Ok(()),
        };
        if let Err(error) = stored {
            tracing::error!(%error, "what a token answered to a login cannot be stored");
        }
        let Output::Done = result? else {
            return Err(CallError::MalformedResponse("login"));
        };
        Ok(())
    }
}
