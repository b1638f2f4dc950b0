//! The provider on one key ring, as one identity.

use async_trait::async_trait;
use claviger_provider::kit::lengths::check_plaintext;
use claviger_provider::{
    Algorithm, BoundContext, Capabilities, ContextBinding, Error, ErrorKind, Generated, How, Kek, KeyCapabilities, KeyDescription,
    KeyRequest, KeySpec, OpContext, Probe, Provider, ProviderKind, Rotation, Secret, Wrapped,
};

use crate::client::Client;
use crate::errors::fault;
use crate::probe;
use crate::wrapping::max_plaintext;

/// The capabilities of a connection; `random` says that data keys come from the HSM's random
/// generator.
pub(crate) fn capabilities(random: bool) -> Capabilities {
    let of = |spec, wrap, context| KeyCapabilities {
        spec,
        wrap,
        generate_data_key: if random { How::InsideProvider } else { How::ThroughMemory },
        rewrap: How::ThroughMemory,
        context,
        rotation: Some(Rotation::InPlace),
        max_plaintext: max_plaintext(spec),
        // Google's own format (GOOGLE_SYMMETRIC_ENCRYPTION), for which the service documents no limit.
        random_nonce_bound: false,
        // An asymmetric key has no primary version at Google.
        chooses_version: matches!(spec, KeySpec::Aes256),
    };
    let rsa = |spec| of(spec, How::ThroughMemory, ContextBinding::CommitmentOnly);
    Capabilities {
        keys: vec![
            of(KeySpec::Aes256, How::InsideProvider, ContextBinding::AssociatedData),
            rsa(KeySpec::Rsa3072),
            rsa(KeySpec::Rsa4096),
        ],
        create_key: true,
        set_state: true,
        schedule_deletion: false,
        import: false,
    }
}

/// The keys of one connection's key ring.
pub struct GcpProvider(pub(crate) Client);

#[async_trait]
impl Provider for GcpProvider {
    fn kind(&self) -> ProviderKind {
        ProviderKind::Gcp
    }

    fn capabilities(&self) -> Capabilities {
        capabilities(self.0.random)
    }

    async fn wrap_key(&self, cx: &OpContext, kek: &Kek, dek: &Secret, context: &BoundContext) -> Result<Wrapped, Error> {
        check_plaintext(ProviderKind::Gcp, dek, max_plaintext(kek.spec))?;
        self.0.wrap(cx, kek, dek, context.bytes()).await
    }

    async fn unwrap_key(&self, cx: &OpContext, wrapped: &Wrapped, context: &BoundContext) -> Result<Secret, Error> {
        let name = self.0.name(&wrapped.key)?;
        let version = Client::version(&wrapped.key)?;
        match wrapped.algorithm {
            Algorithm::ProviderOpaque => self.0.decrypt(cx, &name, version, &wrapped.ciphertext, context.bytes()).await,
            Algorithm::RsaOaep256 => self.0.asymmetric_decrypt(cx, &name, version, &wrapped.ciphertext).await,
            Algorithm::A256Kw
            | Algorithm::A256Kwp
            | Algorithm::Aes256Gcm
            | Algorithm::Xaes256Gcm
            | Algorithm::CborGcm
            | Algorithm::RsaOaep1 => Err(fault(
                ErrorKind::CiphertextRejected,
                "an algorithm that no key of this provider has",
            )),
        }
    }

    async fn generate_data_key(&self, cx: &OpContext, kek: &Kek, len: usize, context: &BoundContext) -> Result<Generated, Error> {
        if !self.0.random {
            return Err(fault(ErrorKind::Unsupported, "the gateway generates data keys"));
        }
        let plaintext = self.0.random_bytes(cx, len).await?;
        let wrapped = self.wrap_key(cx, kek, &plaintext, context).await?;
        Ok(Generated { plaintext, wrapped })
    }

    async fn create_key(&self, cx: &OpContext, request: &KeyRequest) -> Result<KeyDescription, Error> {
        match &request.adopt {
            Some(name) => self.0.adopt(cx, name).await,
            None => self.0.create(cx, request).await,
        }
    }

    async fn find_made(&self, cx: &OpContext, request: &KeyRequest) -> Result<Option<KeyDescription>, Error> {
        self.0.find_made(cx, request).await
    }

    async fn rotate(&self, cx: &OpContext, kek: &Kek) -> Result<KeyDescription, Error> {
        self.0.rotated(cx, kek).await
    }

    async fn describe(&self, cx: &OpContext, kek: &Kek) -> Result<KeyDescription, Error> {
        self.0.described(cx, &self.0.name(&kek.key)?, "describe").await
    }

    async fn set_state(&self, cx: &OpContext, kek: &Kek, enabled: bool) -> Result<(), Error> {
        self.0.set_enabled(cx, &self.0.name(&kek.key)?, enabled).await
    }

    async fn probe(&self, cx: &OpContext, keks: &[Kek]) -> Result<Probe, Error> {
        Ok(probe::probe(&self.0, cx, keks).await)
    }
}
