//! Commands that unwrap a data key without the gateway, for AWS's own command line.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use claviger_provider::{Algorithm, BoundContext, Wrapped};

use crate::names::{KeyArn, Region};
use crate::settings::Settings;

/// The commands for a POSIX shell. The last one prints the data key in base64. Empty where no key of
/// the connection could have wrapped it.
pub(crate) fn commands(settings: &str, wrapped: &Wrapped, context: &BoundContext) -> Vec<String> {
    let region = serde_json::from_str::<Settings>(settings)
        .ok()
        .and_then(|settings| Region::parse(&settings.region));
    let Some((region, arn)) = region.and_then(|region| KeyArn::of_id(&wrapped.key.id, &region).map(|arn| (region, arn))) else {
        return Vec::new();
    };
    let option = match wrapped.algorithm {
        Algorithm::ProviderOpaque => {
            let pairs = serde_json::to_string(&context.pairs()).unwrap_or_default();
            match shlex::try_quote(&pairs) {
                Ok(word) => format!("--encryption-context {word}"),
                Err(_) => return Vec::new(),
            }
        }
        Algorithm::RsaOaep256 => "--encryption-algorithm RSAES_OAEP_SHA_256".to_owned(),
        Algorithm::A256Kw
        | Algorithm::A256Kwp
        | Algorithm::Aes256Gcm
        | Algorithm::Xaes256Gcm
        | Algorithm::CborGcm
        | Algorithm::RsaOaep1 => return Vec::new(),
    };
    let ciphertext = STANDARD.encode(&wrapped.ciphertext);
    // Through a file: versions 1 and 2 of the tool decode a ciphertext argument differently.
    vec![
        format!("printf %s {ciphertext} | base64 -d > claviger-wrapped.bin"),
        format!(
            "aws kms decrypt --region {} --key-id {arn} {option} --ciphertext-blob fileb://claviger-wrapped.bin --query Plaintext --output text",
            region.as_str()
        ),
    ]
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test stops where an expectation fails")]
mod tests {
    use claviger_provider::{Algorithm, BoundContext, ProviderKeyRef, Wrapped};

    use super::commands;

    fn commands_for(id: &str, algorithm: Algorithm) -> Vec<String> {
        let wrapped = Wrapped {
            key: ProviderKeyRef {
                id: id.to_owned(),
                version: String::new(),
            },
            algorithm,
            ciphertext: b"blob".to_vec(),
            key_material: None,
            upstream_request_id: None,
        };
        let context = BoundContext::new([("note".to_owned(), "it's; $(HOME)".to_owned())].into(), Vec::new());
        let settings = r#"{"region": "eu-central-1", "auth": {"static": {}}}"#;
        commands(settings, &wrapped, &context)
    }

    #[test]
    fn a_context_is_one_word_of_the_shell() {
        let commands = commands_for("arn:aws:kms:eu-central-1:111122223333:key/k", Algorithm::ProviderOpaque);
        let words = shlex::split(commands.last().unwrap()).unwrap();
        let at = words.iter().position(|word| word == "--encryption-context").unwrap();
        assert_eq!(words[at + 1], r#"{"note":"it's; $(HOME)"}"#);
    }

    #[test]
    fn a_copied_key_is_named_in_the_connections_region() {
        let commands = commands_for("arn:aws:kms:*:111122223333:key/mrk-1", Algorithm::RsaOaep256);
        let last = commands.last().unwrap();
        assert!(last.contains("--key-id arn:aws:kms:eu-central-1:111122223333:key/mrk-1 "), "{last}");
        assert!(last.contains("--encryption-algorithm RSAES_OAEP_SHA_256") && !last.contains("--encryption-context"));
    }

    #[test]
    fn what_no_key_of_the_connection_made_has_no_way_out() {
        assert!(commands_for("arn:aws:kms:us-east-1:111122223333:key/k", Algorithm::ProviderOpaque).is_empty());
        assert!(commands_for("arn:aws:kms:eu-central-1:111122223333:key/k", Algorithm::A256Kw).is_empty());
    }
}
