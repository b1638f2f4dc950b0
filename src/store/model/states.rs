//! The states of keys and versions, as words. A word that this release does not know is read as
//! `Unrecognized`, which permits nothing: a newer release may have written a state that forbids.

use claviger_provider::{ConnectionId, KeyId, KeyState as AtProvider, ProviderKind, TenantId};

/// Declares an enum of words, with `Unrecognized` for every other word.
macro_rules! words {
    ($(#[$meta:meta])* $name:ident { $($(#[$variant_meta:meta])* $variant:ident = $word:literal,)+ }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum $name {
            $($(#[$variant_meta])* $variant,)+
            /// A word that this release does not know.
            Unrecognized,
        }

        impl $name {
            /// The word in the API and the store.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $word,)+
                    Self::Unrecognized => "unrecognized",
                }
            }

            /// The state of this word.
            pub fn parse(word: &str) -> Self {
                match word {
                    $($word => Self::$variant,)+
                    _ => Self::Unrecognized,
                }
            }
        }
    };
}

words! {
    /// The gateway's own state of a key or version.
    KeyState {
        /// It wraps and unwraps.
        Enabled = "enabled",
        /// It unwraps only.
        DecryptOnly = "decrypt_only",
        /// It does neither until it is enabled.
        Disabled = "disabled",
        /// It does neither, and is kept for later.
        Archived = "archived",
        /// It does neither, and its deletion is scheduled.
        PendingDeletion = "pending_deletion",
        /// Its deletion has begun.
        Destroying = "destroying",
        /// Its material is gone.
        Destroyed = "destroyed",
    }
}

impl KeyState {
    /// Whether the state permits to unwrap.
    pub const fn unwraps(self) -> bool {
        matches!(self, Self::Enabled | Self::DecryptOnly)
    }

    /// Whether it is disabled.
    pub const fn is_disabled(self) -> bool {
        matches!(self, Self::Disabled)
    }

    /// Whether the state permits to wrap.
    pub const fn wraps(self) -> bool {
        matches!(self, Self::Enabled)
    }
}

words! {
    /// A version's state at its provider, as the provider last described it.
    ProviderState {
        /// Usable.
        Enabled = "enabled",
        /// It unwraps, and wraps nothing more.
        DecryptOnly = "decrypt_only",
        /// Disabled; it can be enabled again.
        Disabled = "disabled",
        /// Its material is not imported yet.
        PendingImport = "pending_import",
        /// Scheduled for deletion.
        PendingDeletion = "pending_deletion",
        /// Its material is destroyed.
        Destroyed = "destroyed",
        /// The provider could not create it.
        Failed = "failed",
        /// The provider has another key under the names of the version's: its canary does not open.
        Replaced = "replaced",
        /// The provider may have another key under the names of the version's: nothing shows which. It may be usable.
        Unproven = "unproven",
        /// Its key is of another type at the provider, or has not the usages that the gateway needs. It may still unwrap:
        /// only a call can tell.
        Unfit = "unfit",
        /// The provider did not describe it. It may be usable: only a call can tell.
        Unknown = "unknown",
    }
}

impl ProviderState {
    /// Whether an unwrap by the provider is worth trying.
    pub const fn unwraps(self) -> bool {
        self.wraps() || matches!(self, Self::DecryptOnly | Self::Unfit)
    }

    /// Whether a wrap by the provider is worth trying.
    pub const fn wraps(self) -> bool {
        matches!(self, Self::Enabled | Self::Unknown | Self::Unproven)
    }
}

impl From<AtProvider> for ProviderState {
    fn from(state: AtProvider) -> Self {
        match state {
            AtProvider::Enabled => Self::Enabled,
            AtProvider::DecryptOnly => Self::DecryptOnly,
            AtProvider::Disabled => Self::Disabled,
            AtProvider::PendingImport => Self::PendingImport,
            AtProvider::PendingDeletion => Self::PendingDeletion,
            AtProvider::Destroyed => Self::Destroyed,
            AtProvider::Failed => Self::Failed,
            AtProvider::Unknown => Self::Unknown,
        }
    }
}

words! {
    /// Where a version's key material was generated.
    Material {
        /// The provider.
        Provider = "provider",
        /// The customer, who imported it.
        Imported = "imported",
        /// An external key manager, which holds it.
        External = "external",
    }
}

impl Material {
    /// The material of a version that the provider created or described.
    pub const fn of(provider: ProviderKind) -> Self {
        if provider.external_custody() {
            Self::External
        } else {
            Self::Provider
        }
    }
}

words! {
    /// Who holds a version's key material.
    Custody {
        /// The provider.
        Provider = "provider",
        /// An external key manager.
        External = "external",
    }
}

impl Custody {
    /// The custody of a version at a provider of this kind.
    pub const fn of(provider: ProviderKind) -> Self {
        if provider.external_custody() {
            Self::External
        } else {
            Self::Provider
        }
    }

    /// Whether the rules of external custody apply. They also do for a word that is not known:
    /// they are the stricter ones.
    pub const fn is_external(self) -> bool {
        !matches!(self, Self::Provider)
    }
}

/// An object whose revocation can be lifted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Liftable {
    /// A key, which is enabled.
    Key(KeyId),
    /// A connection, which is restored.
    Connection(ConnectionId),
    /// A tenant, which is resumed.
    Tenant(TenantId),
}

/// The kind of an object that the operator's configuration declares and can be released.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Releasable {
    /// A connection.
    Connection,
    /// A key.
    Key,
}

/// An object that the operator's configuration declares, or did.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct DeclaredRow {
    /// Its kind.
    pub kind: Releasable,
    /// The name of its tenant.
    pub tenant: String,
    /// Its name.
    pub name: String,
}
