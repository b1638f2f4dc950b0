//! What the server says of itself, and whether it has namespaces.
//!
//! Vault Community ignores the header that names a namespace, and so uses the root namespace. A
//! connection with a namespace must therefore ask the server before its first call.

use std::sync::atomic::{AtomicBool, Ordering};

use claviger_provider::CallSink;
use serde::Deserialize;

use crate::client::{Api, Request};
use crate::errors::{CallError, ErrorResponse, Refusal};

pub(crate) const OPERATION: &str = "sys/health";

/// The response of `sys/health`. It needs no token, and belongs to no namespace.
#[derive(Deserialize)]
pub(crate) struct Health {
    #[serde(default)]
    pub(crate) version: String,
    #[serde(default)]
    pub(crate) sealed: bool,
    pub(crate) initialized: bool,
    /// Whether it is Vault Enterprise. HashiCorp's servers say so from 1.16 on, OpenBao's never.
    #[serde(default)]
    enterprise: Option<bool>,
}

impl Health {
    /// Asks the server.
    ///
    /// # Errors
    /// When there is no such response.
    pub(crate) async fn ask(api: &Api, sink: CallSink<'_>) -> Result<Self, CallError> {
        let request = Request::get(OPERATION, &["sys", "health"]).query(&[("standbyok", "true"), ("perfstandbyok", "true")]);
        api.call_system(sink, request).await
    }

    /// Asks the server whether it takes logins, before one that it may count as refused: it responds, and is not sealed.
    /// What responds in its place, such as a proxy that hides this call, shows that there is a connection.
    ///
    /// # Errors
    /// When there is no response, or the server takes no login.
    pub(crate) async fn takes_logins(api: &Api, sink: CallSink<'_>) -> Result<(), CallError> {
        match Self::ask(api, sink).await {
            Ok(health) => health.serves(),
            Err(CallError::MalformedResponse(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Refuses a server that serves no call, with the status and the sentence of its other calls.
    ///
    /// # Errors
    /// `Refused`, as by any of its calls.
    pub(crate) fn serves(&self) -> Result<(), CallError> {
        let (status, why) = match self {
            Self { initialized: false, .. } => (501, "Vault is not initialized"),
            Self { sealed: true, .. } => (503, "Vault is sealed"),
            Self { .. } => return Ok(()),
        };
        Err(CallError::Refused(Refusal::Response(ErrorResponse {
            status,
            sentences: Some(vec![why.to_owned()]),
            pause: None,
        })))
    }

    /// Whether the server has namespaces: Vault Enterprise, and OpenBao from 2.3 on.
    fn has_namespaces(&self) -> bool {
        if let Some(enterprise) = self.enterprise {
            return enterprise;
        }
        // A build without a release's number tells nothing by it.
        let is_release = |rest: &str| rest.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
        match self.version.split_once('.') {
            // Vault before 1.16. Enterprise has it in the version, such as `1.15.6+ent`.
            Some(("0" | "1", rest)) => rest.contains("+ent"),
            Some(("2", rest)) if is_release(rest) => !matches!(rest.split('.').next(), Some("0" | "1" | "2")),
            Some(_) | None => true,
        }
    }

    /// Refuses a server without namespaces.
    ///
    /// # Errors
    /// `NoSource`, with what to do.
    pub(crate) fn require_namespaces(&self) -> Result<(), CallError> {
        if self.has_namespaces() {
            return Ok(());
        }
        Err(CallError::NoSource {
            advice: "The server has no namespaces: Vault Community, and OpenBao before 2.3, ignore the setting `namespace` and would use the \
                     root namespace. Create a connection without `namespace`, with a mount of its own for each team, or use Vault Enterprise \
                     or OpenBao 2.3.",
            cause: format!("the server has no namespaces (version {:?})", self.version),
        })
    }
}

/// The namespace of a connection, until the server was found to have namespaces.
pub(crate) struct NamespaceGuard {
    unproven: AtomicBool,
}

impl NamespaceGuard {
    /// Of a connection with a namespace, or without one.
    pub(crate) fn new(has_namespace: bool) -> Self {
        Self {
            unproven: AtomicBool::new(has_namespace),
        }
    }

    /// Whether nothing has to be asked.
    pub(crate) fn is_proven(&self) -> bool {
        !self.unproven.load(Ordering::Relaxed)
    }

    /// Asks the server, before anything else is sent to it.
    ///
    /// # Errors
    /// `NoSource` for a server without namespaces, and when it does not respond.
    pub(crate) async fn check(&self, api: &Api, sink: CallSink<'_>) -> Result<(), CallError> {
        Health::ask(api, sink).await?.require_namespaces()?;
        self.unproven.store(false, Ordering::Relaxed);
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test stops where an expectation fails")]
mod tests {
    use serde_json::json;

    use super::Health;

    #[test]
    fn the_server_says_whether_it_has_namespaces() {
        for (enterprise, version, has) in [
            (Some(true), "1.20.0+ent", true),
            (Some(true), "1.20.0", true),
            (Some(false), "1.20.0", false),
            (Some(false), "2.4.0", false),
            (None, "1.15.6+ent", true),
            (None, "1.15.6+ent.hsm", true),
            (None, "1.15.6", false),
            (None, "0.11.0", false),
            (None, "2.2.0", false),
            (None, "2.3.0", true),
            (None, "2.10.1", true),
            // Built from sources, without a release's number.
            (None, "2.0.0-HEAD", true),
            // A listener that hides the version: HashiCorp's would still say `enterprise`.
            (None, "", true),
        ] {
            let mut body = json!({"initialized": true, "version": version});
            if let Some(enterprise) = enterprise {
                body["enterprise"] = json!(enterprise);
            }
            let health: Health = serde_json::from_value(body).unwrap();
            assert_eq!(health.has_namespaces(), has, "{enterprise:?} {version}");
        }
    }
}
