//! The calls to Cloud KMS. Each is one attempt with the connection's token, and is reported under
//! Google's name of the method. Google's responses carry no request id.

use std::time::Duration;

use bytes::Bytes;
use claviger_provider::egress::SendError;
use claviger_provider::{CallResult, CallSink, Error, ErrorKind, OpContext, ProviderKeyRef, PublicKeys, Secret, SeverSwitch};
use google_cloud_gax::error::Error as GaxError;
use google_cloud_kms_v1::client::KeyManagementService;
use google_cloud_kms_v1::model::crypto_key_version::CryptoKeyVersionState;
use google_cloud_kms_v1::model::{
    AsymmetricDecryptResponse, CryptoKey, CryptoKeyVersion, DecryptResponse, EncryptResponse, GenerateRandomBytesResponse, ProtectionLevel,
    PublicKey,
};
use google_cloud_wkt::FieldMask;

use crate::checksum::crc32c;
use crate::errors::{CallError, call_error, fault, token_refused};
use crate::library::Library;
use crate::look_ups::{NewestVersions, VersionStates};
use crate::names::{KeyName, KeyRing, VersionNumber};
use crate::session::Session;

/// The page size of a list of versions.
const PAGE: i32 = 1000;
/// The most pages of a list of versions, which bounds a key to the gateway's limit of 10,000.
const MAX_PAGES: usize = 10;

/// The calls that change something at Google.
const CHANGING: [&str; 4] = [
    "CreateCryptoKey",
    "CreateCryptoKeyVersion",
    "UpdateCryptoKeyPrimaryVersion",
    "UpdateCryptoKeyVersion",
];

/// The Cloud KMS API.
pub(crate) struct KmsApi {
    library: Library,
    session: Session,
    switch: SeverSwitch,
}

/// One key ring, as one identity: what every operation works on.
pub(crate) struct Client {
    pub(crate) api: KmsApi,
    pub(crate) ring: KeyRing,
    /// The protection level of created keys.
    pub(crate) level: ProtectionLevel,
    /// Whether data keys come from the HSM's random generator.
    pub(crate) random: bool,
    pub(crate) public_keys: PublicKeys<(KeyName, VersionNumber)>,
    pub(crate) version_states: VersionStates,
    pub(crate) newest_versions: NewestVersions,
    /// How long to wait for the material of a new version.
    pub(crate) patience: Duration,
}

impl Client {
    /// The key that a provider key id names.
    ///
    /// # Errors
    /// `KeyNotFound` for a key of another key ring.
    pub(crate) fn name(&self, key: &ProviderKeyRef) -> Result<KeyName, Error> {
        self.ring
            .key_of_id(&key.id)
            .ok_or_else(|| fault(ErrorKind::KeyNotFound, "a key id of another key ring"))
    }

    /// The version that a key reference names.
    ///
    /// # Errors
    /// `KeyNotFound` for a malformed version.
    pub(crate) fn version(key: &ProviderKeyRef) -> Result<VersionNumber, Error> {
        VersionNumber::parse(&key.version).ok_or_else(|| fault(ErrorKind::KeyNotFound, "a malformed key version"))
    }
}

impl KmsApi {
    /// Sends no request.
    ///
    /// # Errors
    /// When the endpoint's URL or this system's TLS cannot be used.
    pub(crate) async fn new(endpoint: Option<&str>, session: Session, switch: SeverSwitch) -> Result<Self, CallError> {
        Ok(Self {
            library: Library::new(endpoint, session.clone(), switch.clone()).await?,
            session,
            switch,
        })
    }

    /// Sends a call. All calls to Google Cloud KMS go through this function.
    async fn call<T, F>(
        &self,
        cx: &OpContext,
        operation: &'static str,
        send: impl Fn(&KeyManagementService) -> F + Sync,
    ) -> Result<T, CallError>
    where
        F: Future<Output = Result<T, GaxError>> + Send,
    {
        let send = &send;
        let attempt = || async move {
            let attempt = CallSink::from(cx).begin(operation);
            let attempt = if CHANGING.contains(&operation) {
                attempt.changing()
            } else {
                attempt
            };
            let result = self.send(send).await;
            attempt.finish(None, CallResult::of(&result, CallError::result));
            result
        };
        // The tokens of Google's library, too.
        let call = self.session.call(cx.login(), token_refused, attempt);
        self.switch.pass(call).await.map_err(SendError::from)?
    }

    async fn send<T, F>(&self, send: impl Fn(&KeyManagementService) -> F) -> Result<T, CallError>
    where
        F: Future<Output = Result<T, GaxError>> + Send,
    {
        // A caller that no longer waits drops this future, and with it the attempt.
        let _place = self.switch.share().call().ok_or(SendError::Crowded)?;
        let (attempt, client) = self.library.attempt().await?;
        let result = send(&client).await.map_err(|error| call_error(&error));
        match &result {
            Err(CallError::Timeout) => attempt.time_out(),
            Err(error) if error.kind() == ErrorKind::UpstreamUnavailable => attempt.unavailable(),
            Ok(_) | Err(_) => attempt.end(),
        }
        result
    }

    pub(crate) async fn get_key(&self, cx: &OpContext, name: &KeyName) -> Result<CryptoKey, CallError> {
        self.call(cx, "GetCryptoKey", |kms| kms.get_crypto_key().set_name(name.as_str()).send())
            .await
    }

    /// All versions of a key, whatever their state.
    pub(crate) async fn list_versions(&self, cx: &OpContext, name: &KeyName) -> Result<Vec<CryptoKeyVersion>, CallError> {
        let mut versions = Vec::new();
        let mut token = String::new();
        for _ in 0..MAX_PAGES {
            let list = |kms: &KeyManagementService| {
                let list = kms.list_crypto_key_versions().set_parent(name.as_str()).set_page_size(PAGE);
                list.set_page_token(token.as_str()).send()
            };
            let page = self.call(cx, "ListCryptoKeyVersions", list).await?;
            versions.extend(page.crypto_key_versions);
            token = page.next_page_token;
            if token.is_empty() {
                return Ok(versions);
            }
        }
        Err(CallError::MalformedResponse("list of versions"))
    }

    pub(crate) async fn create_key(&self, cx: &OpContext, ring: &KeyRing, id: &str, key: &CryptoKey) -> Result<CryptoKey, CallError> {
        let create = |kms: &KeyManagementService| {
            let create = kms.create_crypto_key().set_parent(ring.as_str());
            create.set_crypto_key_id(id).set_crypto_key(key.clone()).send()
        };
        self.call(cx, "CreateCryptoKey", create).await
    }

    pub(crate) async fn create_version(&self, cx: &OpContext, name: &KeyName) -> Result<CryptoKeyVersion, CallError> {
        let create = |kms: &KeyManagementService| {
            let create = kms.create_crypto_key_version().set_parent(name.as_str());
            create.set_crypto_key_version(CryptoKeyVersion::new()).send()
        };
        self.call(cx, "CreateCryptoKeyVersion", create).await
    }

    pub(crate) async fn get_version(&self, cx: &OpContext, name: &KeyName, version: VersionNumber) -> Result<CryptoKeyVersion, CallError> {
        let resource = name.version(version);
        self.call(cx, "GetCryptoKeyVersion", |kms| {
            kms.get_crypto_key_version().set_name(resource.as_str()).send()
        })
        .await
    }

    pub(crate) async fn set_primary_version(&self, cx: &OpContext, name: &KeyName, version: VersionNumber) -> Result<(), CallError> {
        let update = |kms: &KeyManagementService| {
            let update = kms.update_crypto_key_primary_version().set_name(name.as_str());
            update.set_crypto_key_version_id(version.to_string()).send()
        };
        self.call(cx, "UpdateCryptoKeyPrimaryVersion", update).await.map(drop)
    }

    /// Changes the state of a version, which is given by its full resource name.
    pub(crate) async fn set_version_state(&self, cx: &OpContext, resource: &str, state: CryptoKeyVersionState) -> Result<(), CallError> {
        let changed = CryptoKeyVersion::new().set_name(resource).set_state(state);
        let update = |kms: &KeyManagementService| {
            let update = kms.update_crypto_key_version().set_crypto_key_version(changed.clone());
            update.set_update_mask(FieldMask::default().set_paths(["state"])).send()
        };
        self.call(cx, "UpdateCryptoKeyVersion", update).await.map(drop)
    }

    /// Encrypts with a key's primary version, or with the version that `resource` names.
    pub(crate) async fn encrypt(&self, cx: &OpContext, resource: &str, dek: &Secret, aad: &[u8]) -> Result<EncryptResponse, CallError> {
        let encrypt = |kms: &KeyManagementService| {
            kms.encrypt()
                .set_name(resource)
                .set_plaintext(Bytes::copy_from_slice(dek.expose()))
                .set_plaintext_crc32c(crc32c(dek.expose()))
                .set_additional_authenticated_data(Bytes::copy_from_slice(aad))
                .set_additional_authenticated_data_crc32c(crc32c(aad))
                .send()
        };
        self.call(cx, "Encrypt", encrypt).await
    }

    pub(crate) async fn decrypt(
        &self,
        cx: &OpContext,
        name: &KeyName,
        ciphertext: &[u8],
        aad: &[u8],
    ) -> Result<DecryptResponse, CallError> {
        let decrypt = |kms: &KeyManagementService| {
            kms.decrypt()
                .set_name(name.as_str())
                .set_ciphertext(Bytes::copy_from_slice(ciphertext))
                .set_ciphertext_crc32c(crc32c(ciphertext))
                .set_additional_authenticated_data(Bytes::copy_from_slice(aad))
                .set_additional_authenticated_data_crc32c(crc32c(aad))
                .send()
        };
        self.call(cx, "Decrypt", decrypt).await
    }

    pub(crate) async fn asymmetric_decrypt(
        &self,
        cx: &OpContext,
        resource: &str,
        ciphertext: &[u8],
    ) -> Result<AsymmetricDecryptResponse, CallError> {
        let decrypt = |kms: &KeyManagementService| {
            kms.asymmetric_decrypt()
                .set_name(resource)
                .set_ciphertext(Bytes::copy_from_slice(ciphertext))
                .set_ciphertext_crc32c(crc32c(ciphertext))
                .send()
        };
        self.call(cx, "AsymmetricDecrypt", decrypt).await
    }

    pub(crate) async fn public_key(&self, cx: &OpContext, resource: &str) -> Result<PublicKey, CallError> {
        self.call(cx, "GetPublicKey", |kms| kms.get_public_key().set_name(resource).send())
            .await
    }

    /// Random bytes of the location's HSM.
    pub(crate) async fn random_bytes(&self, cx: &OpContext, location: &str, length: i32) -> Result<GenerateRandomBytesResponse, CallError> {
        let generate = |kms: &KeyManagementService| {
            kms.generate_random_bytes()
                .set_location(location)
                .set_length_bytes(length)
                .set_protection_level(ProtectionLevel::Hsm)
                .send()
        };
        self.call(cx, "GenerateRandomBytes", generate).await
    }

    /// Which of these permissions the identity has on a resource.
    pub(crate) async fn test_permissions(&self, cx: &OpContext, resource: &str, permissions: &[&str]) -> Result<Vec<String>, CallError> {
        let test = |kms: &KeyManagementService| {
            let test = kms.test_iam_permissions().set_resource(resource);
            test.set_permissions(permissions.iter().copied()).send()
        };
        self.call(cx, "TestIamPermissions", test).await.map(|response| response.permissions)
    }
}
