//! Tenants: make and list them. For platform operators only.

use claviger_provider::TenantId;

use super::{Broker, Cx, Failure, Guarded, Keep};
use crate::access::{Permit, op};
use crate::audit::{self, Object, Verb};
use crate::keys::TenantSecrets;
use crate::store::StoreError;
use crate::store::model::Tenant;

/// What a new tenant is to be.
#[derive(Debug, Clone)]
pub struct NewTenant {
    /// Unique in the installation.
    pub name: String,
}

impl Broker {
    /// Makes a tenant with seal and context-hash keys of its own.
    ///
    /// # Errors
    /// `already_exists`.
    pub async fn create_tenant(
        &self,
        cx: &Cx,
        permit: Permit<op::ManageTenants>,
        new: NewTenant,
        keep: Keep<'_, Tenant>,
    ) -> Result<Guarded<Tenant>, Failure> {
        cx.permitted(&permit);
        match self.store.tenant_by_name(&new.name).await {
            Ok(_) => return Err(StoreError::AlreadyExists.into()),
            Err(StoreError::NotFound) => {}
            Err(error) => return Err(error.into()),
        }
        let tenant = Tenant {
            id: TenantId::random(),
            name: new.name,
            suspended: false,
            created: self.now(),
        };
        let change = self
            .announce(cx, audit::Change::new(Verb::Create, Object::Tenant, &tenant.id))
            .await?;
        self.store
            .create_tenant(&tenant, TenantSecrets::draw(tenant.id), &change.keeping(keep(&tenant)?))
            .await?;
        Ok(Guarded::free(tenant))
    }
}
