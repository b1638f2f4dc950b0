//! Errors of calls to a token.

use claviger_pkcs11_host::messages::{Refused, code};
use claviger_provider::kit::call_error;
use claviger_provider::kit::meaning::Meaning;
use claviger_provider::{Error, ErrorKind, ProviderKind};

use crate::codes;
use crate::pin_latch::Evidence;

/// Why a call failed.
pub(crate) type CallError = call_error::CallError<Refusal>;

/// A refusal of the module, or of the helper.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// The function of the module, such as `C_Decrypt`; empty for a refusal of the helper's own.
    function: String,
    /// The return value by its name, such as `CKR_PIN_INCORRECT`, or one of [`code`] and [`codes`].
    pub(crate) code: String,
    /// Of a login, if the token's flags could be read after it.
    pub(crate) evidence: Option<Evidence>,
}

/// The place of a return value in errors is limited.
fn printable(text: &str) -> String {
    text.chars().filter(char::is_ascii_graphic).take(64).collect()
}

impl Refusal {
    /// A refusal that no function of the module returned.
    pub(crate) fn own(code: &str) -> Self {
        Self {
            function: String::new(),
            code: code.to_owned(),
            evidence: None,
        }
    }

    /// Whether another helper can serve the call, and this one did nothing.
    pub(crate) fn is_of_helper(&self) -> bool {
        let code = self.code.as_str();
        let generated = self.function.starts_with("C_GenerateKey") && !codes::NOT_BEGUN.contains(&code);
        codes::LOST.contains(&code) && !generated
    }

    /// Whether the token did not take the PIN, which it may count.
    pub(crate) fn is_of_pin(&self) -> bool {
        codes::WRONG_PIN.contains(&self.code.as_str())
    }
}

/// What a refusal of the helper means.
pub(crate) fn refused(refused: Refused) -> CallError {
    match refused.code.as_str() {
        code::NO_MODULE => CallError::NoSource {
            advice: codes::NO_MODULE,
            cause: refused.cause,
        },
        code::TOO_LATE => CallError::Timeout,
        code::BAD_REQUEST => CallError::Unbuilt("the helper does not know the request".to_owned()),
        _ => CallError::Refused(Refusal {
            function: printable(&refused.function),
            code: printable(&refused.code),
            evidence: refused.has_wrong_pin.map(Evidence::of),
        }),
    }
}

impl call_error::Refusal for Refusal {
    const PROVIDER: ProviderKind = ProviderKind::Pkcs11;
    const LOGIN: &'static str = "log in to the token";

    fn meaning(&self) -> Meaning {
        codes::meaning(&self.code)
    }

    fn rules_out_effect(&self) -> bool {
        self.meaning().kind != ErrorKind::UpstreamUnavailable || self.is_of_helper()
    }

    /// Many modules return one value for a wrong PIN and for a device that fails.
    fn may_be_counted(&self) -> bool {
        self.function == "C_Login" && !self.rules_out_effect()
    }

    fn is_of_credential(&self) -> bool {
        self.is_of_helper()
    }

    fn code(&self) -> Option<String> {
        Some(self.code.clone())
    }

    fn message(&self) -> Option<String> {
        (!self.function.is_empty()).then(|| format!("returned by {}", self.function))
    }
}

/// An error that no response caused.
pub(crate) fn fault(kind: ErrorKind, context: &'static str) -> Error {
    Error::new(kind, context).provider(ProviderKind::Pkcs11)
}
