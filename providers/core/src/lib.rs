//! The contract between the gateway and a key-management service.
//!
//! An adapter (`providers/<x>`) implements [`Provider`]; the gateway wraps it in [`layers`] and calls
//! it through [`Pipeline`]. Adapters connect through [`egress`] and share the parts of the [`kit`].
//! This crate also defines the types that both sides use: identifiers, [`Secret`],
//! [`BoundContext`], [`Capabilities`] and the one [`Error`]. Every crate of the workspace may use
//! it; it uses none of them.

mod call_trace;
mod capability;
mod context;
pub mod egress;
mod error;
mod factory;
mod fields;
mod gcm_parts;
mod health_report;
mod ids;
mod jitter;
pub mod kit;
pub mod layers;
mod login_report;
mod node;
pub mod oaep;
mod op;
mod op_context;
mod probe;
mod provider;
mod public_keys;
mod sealed;
mod secret;
mod secret_files;
mod sever_switch;
mod share;
pub mod xaes;

pub use call_trace::{
    Attempt, BackgroundCalls, BackgroundTrace, CallResult, CallSink, CallTrace, MAX_REQUEST_ID, MAX_TRACED_CALLS, ProviderCall, TracedCalls,
};
pub use capability::{Capabilities, ContextBinding, How, KeyCapabilities, KeySpec, Rotation};
pub use context::{AddedPairs, BoundContext};
pub use error::{CallOrigin, Concerns, Error, ErrorKind, Found, Retry, UpstreamMessage, innermost};
pub use factory::{ClaimSpan, ConnectionParts, Factory, ParsedSettings, SettingsError, SettingsOrigin, take_secret};
pub use fields::{Fields, only, only_member};
pub use gcm_parts::GcmParts;
pub use health_report::{Health, HealthReport, HealthState, HealthStatus};
pub use ids::{ConnectionId, DekId, Id, IdError, IdText, InstallationId, KeyId, PrincipalId, ProviderKind, TenantId, TokenId};
pub use layers::Pipeline;
pub use login_report::{LoginFailure, LoginReport, LoginState, LoginStatus};
pub use node::{Node, NodeError};
pub use op::{Call, Op, Output};
pub use op_context::{LoginWait, OpContext, Purpose};
pub use probe::{Finding, Probe, RightReport};
pub use provider::{
    Algorithm, Exposure, Generated, Kek, KeyDescription, KeyRequest, KeyState, Provider, ProviderKeyRef, Rewrapped, VersionDescription,
    Wrapped,
};
pub use public_keys::PublicKeys;
pub use sealed::{SealedName, SealedStore};
pub use secret::{Secret, fill_random};
pub use secret_files::SecretFiles;
pub use sever_switch::{SeverSwitch, Severed};
pub use share::{Place, SHORT_RESPONSE, Share, Shares};
