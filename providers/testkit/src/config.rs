//! What a fake imitates.

use claviger_provider::{Capabilities, ContextBinding, How, KeyCapabilities, KeySpec, ProviderKind, Rotation};

/// The service that a fake imitates.
#[derive(Debug, Clone)]
pub struct FakeConfig {
    /// The reported kind of provider.
    pub kind: ProviderKind,
    /// The declared capabilities. Other operations fail with `Unsupported`.
    pub capabilities: Capabilities,
}

impl Default for FakeConfig {
    /// A Vault that creates AES keys, wraps inside with random nonces, binds the context's bytes and rotates in
    /// place.
    fn default() -> Self {
        Self {
            kind: ProviderKind::Vault,
            capabilities: Capabilities {
                keys: vec![KeyCapabilities {
                    spec: KeySpec::Aes256,
                    wrap: How::InsideProvider,
                    generate_data_key: How::ThroughMemory,
                    rewrap: How::ThroughMemory,
                    context: ContextBinding::AssociatedData,
                    rotation: Some(Rotation::InPlace),
                    max_plaintext: 4096,
                    random_nonce_bound: true,
                    chooses_version: true,
                }],
                create_key: true,
                set_state: true,
                schedule_deletion: false,
                import: false,
            },
        }
    }
}

impl FakeConfig {
    /// A service with all capabilities: data keys and rewrap inside, deletion, import, and the
    /// context bound as pairs, as AWS does. `rotation` is the test's choice.
    pub fn capable(kind: ProviderKind, rotation: Rotation) -> Self {
        let Capabilities { keys, .. } = Self::default().capabilities;
        let inside = |keys: KeyCapabilities| KeyCapabilities {
            generate_data_key: How::InsideProvider,
            rewrap: How::InsideProvider,
            context: ContextBinding::Pairs,
            random_nonce_bound: false,
            rotation: Some(rotation),
            ..keys
        };
        Self {
            kind,
            capabilities: Capabilities {
                keys: keys.into_iter().map(inside).collect(),
                create_key: true,
                set_state: true,
                schedule_deletion: true,
                import: true,
            },
        }
    }
}
