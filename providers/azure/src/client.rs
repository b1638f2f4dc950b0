//! The SDK's client of one vault, set up so that nothing of the machine has a say in it.

use std::sync::Arc;

use azure_core::http::{ClientOptions, HttpClient, RetryOptions, Transport};
use azure_security_keyvault_keys::{KeyClient, KeyClientOptions};

use crate::session::Session;

/// The version of the REST API: the oldest with all that is used, which every cloud has.
pub(crate) const API_VERSION: &str = "7.4";

/// A client of the vault at this address.
pub(crate) fn client(address: &str, session: Arc<Session>, transport: Arc<dyn HttpClient>) -> azure_core::Result<KeyClient> {
    let options = KeyClientOptions {
        api_version: API_VERSION.to_owned(),
        client_options: ClientOptions {
            // Retries belong to the gateway's pipeline.
            retry: RetryOptions::none(),
            transport: Some(Transport::new(transport)),
            ..ClientOptions::default()
        },
        // Our transport looks at every challenge, and our credential has tokens of one scope only.
        verify_challenge_resource: Some(false),
    };
    KeyClient::new(address, session, Some(options))
}
