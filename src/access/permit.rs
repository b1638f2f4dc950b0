//! The proof of a decision: what a use case asks for before it does anything.

use std::marker::PhantomData;
use std::sync::Arc;

use claviger_provider::{ConnectionId, KeyId, TenantId};

use super::Caller;
use crate::audit::Action;

/// One action of the closed list, as a type, so that a permit for one operation is no
/// permit for another.
pub trait Operation: Send + Sync + 'static {
    /// The action.
    const ACTION: Action;
}

macro_rules! operations {
    ($($name:ident),* $(,)?) => {
        /// The actions as types, one for each.
        pub mod op {
            $(
                #[doc = concat!("The action `", stringify!($name), "`.")]
                #[derive(Debug)]
                pub enum $name {}

                impl super::Operation for $name {
                    const ACTION: super::Action = super::Action::$name;
                }
            )*
        }
    };
}

operations! {
    CreateConnection, ReadConnection, UpdateConnection, DeleteConnection,
    CreateKey, ReadKey, UpdateKey, DeleteKey,
    CheckConnection, Sever, Restore, Rotate, Enable, Disable,
    GenerateDataKey, GenerateDataKeyWithoutPlaintext, Wrap, Unwrap, UnwrapUnsealed,
    Rewrap, RewrapFrom, RewrapTo, Inspect,
    ManageTenants, ManagePrincipals, ManageTokens,
}

/// Which policy decided, for the record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyRef {
    /// Its id.
    pub id: &'static str,
    /// Its version.
    pub version: u64,
}

/// What a permit is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Object {
    /// The installation (tenants).
    Installation,
    /// The tenant as a whole (making and listing things).
    Tenant,
    /// One key.
    Key(KeyId),
    /// One connection.
    Connection(ConnectionId),
}

/// Leave to do one operation on one object for one caller. It cannot be made outside this
/// module, nor copied: a use case consumes it.
#[derive(Debug)]
pub struct Permit<O: Operation> {
    caller: Arc<Caller>,
    object: Object,
    policy: PolicyRef,
    operation: PhantomData<fn() -> O>,
}

impl<O: Operation> Permit<O> {
    pub(super) fn new(caller: Arc<Caller>, object: Object, policy: PolicyRef) -> Self {
        Self {
            caller,
            object,
            policy,
            operation: PhantomData,
        }
    }

    /// For whom.
    pub fn caller(&self) -> &Arc<Caller> {
        &self.caller
    }

    /// In which tenant.
    pub fn tenant(&self) -> TenantId {
        self.caller.tenant()
    }

    /// On what.
    pub const fn object(&self) -> Object {
        self.object
    }

    /// By which policy.
    pub const fn policy(&self) -> &PolicyRef {
        &self.policy
    }
}
