//! Commands that decrypt a wrapped key without the gateway, with Google's tools.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use claviger_provider::{Algorithm, BoundContext, Wrapped};
use serde_json::json;

use crate::names::{KeyRing, VersionNumber};
use crate::settings::Settings;

/// The commands, the last of which prints the data key in base64; none for a wrapped key of another
/// connection.
pub(crate) fn offline_decrypt(settings: &str, endpoint: Option<&str>, wrapped: &Wrapped, context: &BoundContext) -> Vec<String> {
    let settings: Option<Settings> = serde_json::from_str(settings).ok();
    let Some((settings, ring)) = settings.and_then(|settings| KeyRing::parse(&settings.key_ring).ok().map(|ring| (settings, ring))) else {
        return Vec::new();
    };
    let (Some(key), Some(version)) = (ring.key_of_id(&wrapped.key.id), VersionNumber::parse(&wrapped.key.version)) else {
        return Vec::new();
    };
    let (project, location, keyring) = ring.parts();
    let arguments = format!("--project {project} --location {location} --keyring {keyring} --key {}", key.id());
    let mut commands = vec![file("claviger-wrapped.bin", &wrapped.ciphertext)];
    let (gcloud, method, name, parameters) = match wrapped.algorithm {
        Algorithm::ProviderOpaque => {
            commands.push(file("claviger-context.bin", context.bytes()));
            (
                format!("gcloud kms decrypt {arguments} --additional-authenticated-data-file claviger-context.bin"),
                "decrypt",
                key.as_str().to_owned(),
                ", \"additional_authenticated_data\": open(\"claviger-context.bin\", \"rb\").read()",
            )
        }
        Algorithm::RsaOaep256 => (
            format!("gcloud kms asymmetric-decrypt {arguments} --version {version}"),
            "asymmetric_decrypt",
            key.version(version),
            "",
        ),
        Algorithm::A256Kw
        | Algorithm::A256Kwp
        | Algorithm::Aes256Gcm
        | Algorithm::Xaes256Gcm
        | Algorithm::CborGcm
        | Algorithm::RsaOaep1 => return Vec::new(),
    };
    // A JSON string is also a Python string; the names are ASCII, and a URL is printable.
    let options = match settings.endpoint.as_deref().or(endpoint) {
        Some(endpoint) => format!(", client_options={}", json!({"api_endpoint": endpoint.trim_end_matches('/')})),
        None => String::new(),
    };
    commands.extend([
        format!("# With gcloud, the data key goes into a file: {gcloud} --ciphertext-file claviger-wrapped.bin --plaintext-file k"),
        "# With Google's client for Python: pip install google-cloud-kms".to_owned(),
        "cat > claviger-open.py <<'PYTHON'".to_owned(),
        "import base64".to_owned(),
        "from google.cloud import kms".to_owned(),
        format!("client = kms.KeyManagementServiceClient(transport=\"rest\"{options})"),
        format!("request = {{\"name\": \"{name}\", \"ciphertext\": open(\"claviger-wrapped.bin\", \"rb\").read(){parameters}}}"),
        format!("print(base64.b64encode(client.{method}(request=request).plaintext).decode())"),
        "PYTHON".to_owned(),
        "python3 claviger-open.py".to_owned(),
    ]);
    commands
}

/// The command that writes a file.
fn file(name: &str, bytes: &[u8]) -> String {
    format!("printf '%s' {} | base64 -d > {name}", STANDARD.encode(bytes))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test stops where an expectation fails")]
mod tests {
    use claviger_provider::{Algorithm, BoundContext, ProviderKeyRef, Wrapped};

    use super::offline_decrypt;

    const RING: &str = "projects/p/locations/global/keyRings/r";

    fn commands(id: &str, algorithm: Algorithm, endpoint: Option<&str>) -> Vec<String> {
        let wrapped = Wrapped {
            key: ProviderKeyRef {
                id: id.to_owned(),
                version: "7".to_owned(),
            },
            algorithm,
            ciphertext: b"blob".to_vec(),
            key_material: None,
            upstream_request_id: None,
        };
        let context = BoundContext::new([("note".to_owned(), "it's".to_owned())].into(), vec![0xa0]);
        let settings = format!(r#"{{"key_ring": "{RING}", "auth": {{"token": {{}}}}}}"#);
        offline_decrypt(&settings, endpoint, &wrapped, &context)
    }

    #[test]
    fn a_symmetric_key_is_named_without_its_version_and_with_the_context() {
        let lines = commands(&format!("{RING}/cryptoKeys/k"), Algorithm::ProviderOpaque, None).join("\n");
        assert!(lines.contains("printf '%s' oA== | base64 -d > claviger-context.bin"), "{lines}");
        assert!(
            lines.contains("gcloud kms decrypt --project p --location global --keyring r --key k --additional-authenticated-data-file"),
            "{lines}"
        );
        assert!(
            lines.contains(r#""name": "projects/p/locations/global/keyRings/r/cryptoKeys/k", "#),
            "{lines}"
        );
        assert!(!lines.contains("client_options"), "{lines}");
        assert!(lines.ends_with("\npython3 claviger-open.py"), "{lines}");
    }

    #[test]
    fn an_rsa_key_is_named_with_its_version() {
        let key = format!("{RING}/cryptoKeys/k");
        let lines = commands(&key, Algorithm::RsaOaep256, Some("http://127.0.0.1:1/")).join("\n");
        assert!(lines.contains("--version 7 "), "{lines}");
        assert!(
            lines.contains("/cryptoKeyVersions/7\"") && !lines.contains("claviger-context"),
            "{lines}"
        );
        assert!(lines.contains(r#"client_options={"api_endpoint":"http://127.0.0.1:1"}"#), "{lines}");
    }

    #[test]
    fn wrapped_keys_of_other_connections_have_no_commands() {
        assert!(commands("projects/p/locations/us/keyRings/r/cryptoKeys/k", Algorithm::ProviderOpaque, None).is_empty());
        assert!(commands(&format!("{RING}/cryptoKeys/k"), Algorithm::A256Kw, None).is_empty());
        assert!(commands(&format!("{RING}/cryptoKeys/k';id"), Algorithm::RsaOaep256, None).is_empty());
    }
}
