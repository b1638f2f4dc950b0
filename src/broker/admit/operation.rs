//! The operations as types: each with its action and the object that it acts on.

use std::sync::Arc;

use super::objects::{InspectedKey, KeyPair, NewConnectionIn, NewKeyIn, RotateOf, UpdateOf};
use super::scopes::{Installation, ListedKeys, TenantScope};
use super::tokens::{EndingPrincipal, NewTokenFor, OwnToken, PrincipalScope, TokenOf};
use crate::access::Action;
use crate::keys::{ConnectionEntry, KeyEntry};
use crate::store::model::{Principal, Tenant};

/// An operation: the action that is decided and recorded, and the object that it acts on.
/// A use case names its operation in its signature, and so cannot be reached with another.
pub trait Operation: Send + Sync + 'static {
    /// The action, by its name in grants and records.
    const ACTION: Action;
    /// Whether an operator may do it in a suspended tenant: what reads, and what revokes.
    const WHILE_SUSPENDED: bool;
    /// Whether it is a revocation, whose loads wait for no other request's.
    const REVOKES: bool;
    /// The type of object that it acts on.
    type Object: Send + Sync + 'static;
}

macro_rules! operations {
    (@ $($word:ident)+) => { true };
    (@) => { false };
    ($($name:ident: $action:ident on $object:ty $(=> $suspended:ident $(+ $revokes:ident)?)?),* $(,)?) => {
        /// The operations.
        pub mod op {
            use super::*;
            $(
                #[doc = concat!("An operation with the action `", stringify!($action), "`.")]
                #[derive(Debug)]
                pub enum $name {}

                impl Operation for $name {
                    const ACTION: Action = Action::$action;
                    const WHILE_SUSPENDED: bool = operations!(@ $($suspended)?);
                    const REVOKES: bool = operations!(@ $($($revokes)?)?);
                    type Object = $object;
                }
            )*
        }
    };
}

operations! {
    CreateConnection: CreateConnection on NewConnectionIn,
    ListConnections: ReadConnection on TenantScope => while_suspended,
    ReadConnection: ReadConnection on Arc<ConnectionEntry> => while_suspended,
    UpdateConnection: UpdateConnection on Arc<ConnectionEntry>,
    DeleteConnection: DeleteConnection on Arc<ConnectionEntry>,
    CheckConnection: CheckConnection on Arc<ConnectionEntry>,
    Sever: Sever on Arc<ConnectionEntry> => while_suspended + revokes,
    Restore: Restore on Arc<ConnectionEntry>,

    CreateKey: CreateKey on NewKeyIn,
    ListKeys: ReadKey on ListedKeys => while_suspended,
    ReadKey: ReadKey on Arc<KeyEntry> => while_suspended,
    UpdateKey: UpdateKey on UpdateOf,
    DeleteKey: DeleteKey on Arc<KeyEntry>,
    Rotate: Rotate on RotateOf,
    Enable: Enable on Arc<KeyEntry>,
    Disable: Disable on Arc<KeyEntry> => while_suspended + revokes,

    GenerateDataKey: GenerateDataKey on Arc<KeyEntry>,
    GenerateDataKeyWithoutPlaintext: GenerateDataKeyWithoutPlaintext on Arc<KeyEntry>,
    Wrap: Wrap on Arc<KeyEntry>,
    Unwrap: Unwrap on Arc<KeyEntry>,
    Rewrap: Rewrap on Arc<KeyEntry>,
    RewrapToOther: RewrapFrom on KeyPair,
    Inspect: Inspect on InspectedKey,

    CreateTenant: ManageTenants on Installation => while_suspended,
    ListTenants: ManageTenants on Installation => while_suspended,
    ReadTenant: ManageTenants on Tenant => while_suspended,
    SuspendTenant: ManageTenants on Tenant => while_suspended + revokes,
    ResumeTenant: ManageTenants on Tenant => while_suspended,
    PlanDeclared: ManageTenants on Installation => while_suspended,
    ApplyDeclared: ManageTenants on Installation => while_suspended,
    ReleaseDeclared: ManageTenants on Installation => while_suspended,
    CreatePrincipal: ManagePrincipals on PrincipalScope,
    ListPrincipals: ManagePrincipals on PrincipalScope => while_suspended,
    ReadPrincipal: ManagePrincipals on Principal => while_suspended,
    DeletePrincipal: ManagePrincipals on EndingPrincipal => while_suspended + revokes,
    IssueToken: ManageTokens on NewTokenFor,
    ListTokens: ManageTokens on Principal => while_suspended,
    RevokeToken: ManageTokens on TokenOf => while_suspended + revokes,
    ReadOwnToken: ManageTokens on OwnToken => while_suspended,
}
