//! The operations as types: each with its action and the object that it acts on.

use std::sync::Arc;

use super::objects::{
    InspectedKey, Installation, KeyPair, ListedKeys, NewConnectionIn, NewKeyIn, NewTokenFor, PrincipalScope, TenantScope, TokenOf,
};
use crate::access::Action;
use crate::keys::{ConnectionEntry, KeyEntry};
use crate::store::model::{Principal, Tenant};

/// An operation: the action that is decided and recorded, and the object that it acts on.
/// A use case names its operation in its signature, and so cannot be reached with another.
pub trait Operation: Send + Sync + 'static {
    /// The action, as grants and records name it.
    const ACTION: Action;
    /// What it acts on.
    type Object: Send + Sync + 'static;
}

macro_rules! operations {
    ($($name:ident: $action:ident on $object:ty),* $(,)?) => {
        /// The operations.
        pub mod op {
            use super::*;
            $(
                #[doc = concat!("An operation with the action `", stringify!($action), "`.")]
                #[derive(Debug)]
                pub enum $name {}

                impl Operation for $name {
                    const ACTION: Action = Action::$action;
                    type Object = $object;
                }
            )*
        }
    };
}

operations! {
    CreateConnection: CreateConnection on NewConnectionIn,
    ListConnections: ReadConnection on TenantScope,
    ReadConnection: ReadConnection on Arc<ConnectionEntry>,
    UpdateConnection: UpdateConnection on Arc<ConnectionEntry>,
    DeleteConnection: DeleteConnection on Arc<ConnectionEntry>,
    CheckConnection: CheckConnection on Arc<ConnectionEntry>,
    Sever: Sever on Arc<ConnectionEntry>,
    Restore: Restore on Arc<ConnectionEntry>,

    CreateKey: CreateKey on NewKeyIn,
    ListKeys: ReadKey on ListedKeys,
    ReadKey: ReadKey on Arc<KeyEntry>,
    UpdateKey: UpdateKey on Arc<KeyEntry>,
    DeleteKey: DeleteKey on Arc<KeyEntry>,
    Rotate: Rotate on Arc<KeyEntry>,
    Enable: Enable on Arc<KeyEntry>,
    Disable: Disable on Arc<KeyEntry>,

    GenerateDataKey: GenerateDataKey on Arc<KeyEntry>,
    GenerateDataKeyWithoutPlaintext: GenerateDataKeyWithoutPlaintext on Arc<KeyEntry>,
    Wrap: Wrap on Arc<KeyEntry>,
    Unwrap: Unwrap on Arc<KeyEntry>,
    Rewrap: Rewrap on Arc<KeyEntry>,
    RewrapToOther: RewrapFrom on KeyPair,
    Inspect: Inspect on InspectedKey,

    CreateTenant: ManageTenants on Installation,
    ListTenants: ManageTenants on Installation,
    ReadTenant: ManageTenants on Tenant,
    PlanDeclared: ManageTenants on Installation,
    ApplyDeclared: ManageTenants on Installation,
    CreatePrincipal: ManagePrincipals on PrincipalScope,
    ListPrincipals: ManagePrincipals on PrincipalScope,
    ReadPrincipal: ManagePrincipals on Principal,
    DeletePrincipal: ManagePrincipals on Principal,
    IssueToken: ManageTokens on NewTokenFor,
    ListTokens: ManageTokens on Principal,
    RevokeToken: ManageTokens on TokenOf,
}
