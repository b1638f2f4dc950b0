//! The contract between the gateway and a key-management service.
//!
//! An adapter (`providers/<x>`) implements [`Provider`]; the gateway wraps it in
//! [`layers`] and talks to it through [`Pipeline`]. This crate also holds the vocabulary
//! that both sides share: identifiers, [`Secret`], [`BoundContext`], [`Capabilities`] and
//! the one [`Error`]. Every crate of the workspace may use it; it uses none of them.

mod capability;
mod context;
pub mod egress;
mod error;
mod factory;
mod fields;
mod halves;
mod ids;
pub mod layers;
pub mod oaep;
mod op;
mod provider;
mod sealed;
mod secret;
pub mod xaes;

pub use capability::{Capabilities, ContextBinding, How, KeyCapabilities, KeySpec, Rotation};
pub use context::BoundContext;
pub use error::{Error, ErrorKind, Retry, Told, innermost};
pub use factory::{ConnectionParts, Factory, ParsedSettings, SettingsError, SettingsOrigin, take_secret};
pub use fields::{Fields, only, only_member};
pub use halves::PublicHalves;
pub use ids::{ConnectionId, DekId, Id, IdError, InstallationId, KeyId, PrincipalId, ProviderKind, TenantId, TokenId};
pub use layers::Pipeline;
pub use op::{Call, Op, Reply};
pub use provider::{
    Algorithm, Finding, Generated, Kek, KeyDescription, KeyRequest, KeyState, OpContext, Probe, Provider, ProviderKeyRef, Rewrapped,
    RightReport, VersionDescription, Wrapped,
};
pub use sealed::{SealedName, SealedStore};
pub use secret::{Secret, fill_random};
