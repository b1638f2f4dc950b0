//! What a case needs of a provider, and which entry has it.

use crate::entries::{Entry, Start};

/// What a case needs of a provider to be run on it at all.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Needs {
    /// Nothing but keys.
    Keys,
    /// That it can be told to misbehave.
    Faults,
    /// That, and that it generates data keys and rewraps by itself.
    FaultsInside,
    /// That it can be told to misbehave, and a gateway for this case alone.
    FaultsAlone,
    /// That the owner of its keys can rotate them there, and disable one version.
    OwnersVersions,
    /// That its owner can do this there, without the gateway.
    Owner(Act),
}

/// What the owner of a key does at its service, without asking the gateway.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Act {
    /// Deletes a key so that it can be recovered, and recovers it.
    SoftDelete,
    /// Deletes a key for good, and may make another of its name.
    Delete,
    /// Disables a key as a whole, and enables it again.
    Disable,
    /// Imports a key's material, removes it, and imports it again.
    RemoveMaterial,
    /// Moves an alias to another key.
    MoveAlias,
    /// Takes a credential's right away, and gives it back.
    ChangeRights,
}

impl Needs {
    /// Whether a case that needs it can be run on this entry.
    pub fn met_by(self, entry: &Entry) -> bool {
        let faults = matches!(entry.start, Start::Fake(_));
        match self {
            Self::Keys => true,
            Self::Faults | Self::FaultsAlone => faults,
            Self::FaultsInside => faults && entry.inside,
            // Nobody else has the keys of the embedded provider, and neither AWS, an XKS proxy, KMIP nor a token names versions.
            Self::OwnersVersions => !matches!(entry.provider, "local" | "aws" | "xks" | "kmip" | "pkcs11"),
            Self::Owner(act) => act.is_possible(entry),
        }
    }
}

impl Act {
    /// Whether the owner of a key can do it at this entry's service, and the service shows it.
    fn is_possible(self, entry: &Entry) -> bool {
        match (entry.start, entry.provider) {
            // Of KMIP and PKCS#11, the provider's own battery has the owner's acts.
            (Start::Fake(_) | Start::Token(_), _) | (Start::Serve, "local" | "kmip") => false,
            (Start::Serve, _) => matches!(self, Self::SoftDelete | Self::Delete | Self::ChangeRights),
            // A key ends after a week at the earliest, and neither stand-in checks policies.
            (Start::Aws("LOCALSTACK"), _) => !matches!(self, Self::Delete | Self::ChangeRights),
            // moto goes on using what its owner disables.
            (Start::Aws(_), _) => matches!(self, Self::SoftDelete | Self::MoveAlias),
            // The cases share the fake, whose permissions are those of all.
            (Start::Azure, _) => matches!(self, Self::SoftDelete | Self::Delete),
            // A version ends after a day at the earliest, and the name of a deleted key is never given again.
            (Start::Google, _) => self == Self::SoftDelete,
            // The cases share the fake, whose denials are those of all.
            (Start::Xks, _) => matches!(self, Self::Disable | Self::Delete),
        }
    }
}
