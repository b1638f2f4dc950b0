//! Enable: undoes a disable.

use super::at_provider::{not_severed, turn_at_provider};
use super::read::NamedKey;
use super::{Authorized, Broker, Code, Completed, Completion, Failure, Guarded, Keep, op};
use crate::audit::{self, EmergencyRevocation, Object, Verb};
use crate::store::model::{Key, Liftable};
use crate::store::rules;

impl Broker {
    /// Enables a key. With `at_provider` the provider comes first: if it refuses, nothing changes
    /// here.
    ///
    /// # Errors
    /// `unsupported`, and the provider's errors; `key_disabled` when a disable arrived meanwhile.
    pub async fn enable(
        &self,
        authorized: Authorized<op::Enable>,
        at_provider: bool,
        keep: Keep<NamedKey>,
    ) -> Result<Guarded<Completed<NamedKey>>, Failure> {
        let (cx, key) = (authorized.cx(), authorized.object());
        let revocations = key.revocations().seen();
        let change = audit::StateChange::new(Verb::Enable, Object::Key, &key.id());
        let (_turn, change) = if at_provider {
            let turn = turn_at_provider(cx, key).await?;
            not_severed(key)?;
            let change = self.announce(cx, change.at_provider()).await?;
            self.switch_at_provider(cx, key, true).await?;
            (Some(turn), change)
        } else {
            (None, self.announce(cx, change).await?)
        };
        let _one_at_a_time = key.change().lock().await;
        // A disable that came after this request began wins.
        if key.revocations().seen() != revocations {
            return Err(Failure::new(Code::KeyDisabled, "The key was disabled while it was being enabled."));
        }
        let before = Key::clone(&key.view()?.key);
        let mut after = before.clone();
        rules::set_disabled(&mut after, false, self.now());
        // A commit that fails may be found after a crash all the same. A disable from here on
        // counts it, so that it never looks older; and an enable outdoes what was counted.
        self.store.raise_lifts(key.tenant(), Liftable::Key(key.id()), before.lifts).await?;
        key.put(
            Key {
                lifts: after.lifts,
                ..before
            },
            None,
        );
        let after = NamedKey::of(after, key);
        let change = change.keeping(after.kept(&keep, Completion::Done)?);
        let row = self
            .store
            .set_key_disabled(key.tenant(), key.id(), false, after.key.updated, &change)
            .await?;
        key.put(row.clone(), None);
        self.clear_from_kill_file(EmergencyRevocation::Disable(key.id())).await;
        Ok(Guarded::free(NamedKey::of(row, key).completed(Completion::Done)))
    }
}
