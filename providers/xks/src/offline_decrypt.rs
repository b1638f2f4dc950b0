//! Commands that unwrap a data key without the gateway: curl, which signs by itself.

use std::borrow::Cow;

use claviger_provider::{Algorithm, BoundContext, GcmParts, TenantId, Wrapped};
use serde_json::json;

use crate::api::encoded;
use crate::auth::Auth;
use crate::names::{API, KeyName, Region, key_arn, principal_arn};
use crate::settings::Settings;
use crate::signature::SERVICE;

/// The commands for a POSIX shell, the last of which prints the data key in base64. They take the access key from
/// variables, and a client certificate from files. `None` where no key of the connection could have wrapped it.
pub(crate) fn commands(settings: &Settings, wrapped: &Wrapped, context: &BoundContext) -> Option<Vec<String>> {
    let (name, region) = (KeyName::parse(&wrapped.key.id)?, Region::parse(&settings.region)?);
    let parts = GcmParts::parse(&wrapped.ciphertext).filter(|_| wrapped.algorithm == Algorithm::CborGcm)?;
    let added = context.added();
    let tenant = added.map_or(TenantId::INSTALLATION, |added| added.tenant);
    let mut metadata = json!({
        "awsPrincipalArn": principal_arn(tenant, "offline"),
        "kmsOperation": "Decrypt",
        "kmsRequestId": "offline",
    });
    if let Some(added) = added {
        metadata["kmsKeyArn"] = json!(key_arn(&region, tenant, added.key));
    }
    let mut body = json!({
        "requestMetadata": metadata,
        "ciphertext": encoded(parts.ciphertext),
        "initializationVector": encoded(parts.iv),
        "authenticationTag": encoded(parts.tag),
        "additionalAuthenticatedData": encoded(context.bytes()),
        "encryptionAlgorithm": "AES_GCM",
    });
    if !parts.metadata.is_empty() {
        body["ciphertextMetadata"] = json!(encoded(parts.metadata));
    }
    let mut commands = vec!["export XKS_ACCESS_KEY=ACCESS_KEY_ID:SECRET_ACCESS_KEY".to_owned()];
    let mut options = String::new();
    if let Some(ca) = &settings.ca {
        commands.push(format!("printf '%s' {} > xks-ca.pem", quoted(ca)?));
        options.push_str(" --cacert xks-ca.pem");
    }
    if let Some(proxy) = &settings.proxy {
        options.push_str(&format!(" --proxy {}", quoted(proxy)?));
    }
    let Auth::Sigv4 { client_certificate } = &settings.auth;
    if client_certificate.is_some() {
        options.push_str(" --cert client.pem --key client-key.pem");
    }
    commands.push(format!(
        "curl -sS{options} --aws-sigv4 aws:amz:{}:{SERVICE} --user \"$XKS_ACCESS_KEY\" -H 'Content-Type: application/json' -d {} {} | \
         sed 's/.*\"plaintext\" *: *\"\\([^\"]*\\)\".*/\\1/'",
        region.as_str(),
        quoted(&body.to_string())?,
        quoted(&format!("{}{API}/keys/{}/decrypt", settings.address, name.as_str()))?,
    ));
    Some(commands)
}

/// A text as one word of a POSIX shell; `None` for a text that has no such form.
fn quoted(text: &str) -> Option<Cow<'_, str>> {
    shlex::try_quote(text).ok()
}
