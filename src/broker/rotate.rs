//! Rotate: a new primary version; the old ones still unwrap.

use std::sync::Arc;

use super::create_key::number_versions;
use super::disable::turn_at_provider;
use super::enclose::ready;
use super::{Broker, Code, Cx, Failure, Guarded, Keep};
use crate::access::{Permit, op};
use crate::audit::{self, Object, Verb};
use crate::keys::KeyEntry;
use crate::store::model::Key;

impl Broker {
    /// Makes a new primary version at the provider and takes its row here.
    ///
    /// # Errors
    /// `unsupported` where keys cannot be rotated, and what the provider says.
    pub async fn rotate(
        &self,
        cx: &Cx,
        permit: Permit<op::Rotate>,
        key: &Arc<KeyEntry>,
        keep: Keep<'_, Key>,
    ) -> Result<Guarded<Key>, Failure> {
        cx.permitted(&permit);
        let _one_at_a_time = turn_at_provider(cx, key).await?;
        let ready = ready(cx, key)?;
        if ready.can()?.rotation.is_none() {
            return Err(Failure::new(Code::Unsupported, "The connection's provider does not rotate keys."));
        }
        let change = self
            .announce(cx, audit::Change::new(Verb::Rotate, Object::Key, &key.id()).at_provider())
            .await?;
        let described = ready.pipeline.rotate(&cx.op_context(), &ready.primary()?).await?;
        let _row = key.change().lock().await;
        // The row as it is now: a disable may have come while the provider was asked.
        let view = key.view()?;
        let now = self.now();
        let (new, primary) = number_versions(&view.versions, &described, now)?;
        // The answer that is kept is the row as the transaction will leave it.
        let mut after = Key::clone(&view.key);
        after.primary_version = primary;
        after.provider_key.clone_from(&described.id);
        after.revision += 1;
        after.updated = now;
        let change = change.keeping(keep(&after)?);
        let row = self
            .store
            .add_key_versions(key.tenant(), key.id(), &new, primary, now, &change)
            .await?;
        cx.note(|facts| facts.key_version = Some(primary));
        let versions = view.versions.iter().cloned().chain(new).collect();
        key.put(row.clone(), Some(versions));
        Ok(Guarded::free(row))
    }
}

impl Broker {
    /// Takes the rows of versions that the provider has and we do not: after an
    /// interrupted rotate, or one that was made at the provider itself. The caller has the
    /// turn at the provider.
    ///
    /// # Errors
    /// What the provider or the store says.
    pub(super) async fn take_versions(
        &self,
        cx: &claviger_provider::OpContext,
        key: &KeyEntry,
        change: &crate::store::Change,
    ) -> Result<bool, Failure> {
        let Ok(view) = key.view() else { return Ok(false) };
        let described = key.connection().pipeline().describe(cx, &view.key.kek()).await?;
        let _row = key.change().lock().await;
        let Ok(view) = key.view() else { return Ok(false) };
        let now = self.now();
        let (new, primary) = number_versions(&view.versions, &described, now)?;
        if new.is_empty() && primary == view.key.primary_version {
            return Ok(false);
        }
        let row = self
            .store
            .add_key_versions(key.tenant(), key.id(), &new, primary, now, change)
            .await?;
        let versions = view.versions.iter().cloned().chain(new).collect();
        key.put(row, Some(versions));
        Ok(true)
    }
}
