//! Enable: undoes a disable.

use super::at_provider::{AtProvider, Switched, turn_at_provider};
use super::disable::switched;
use super::{Authorized, Broker, Code, Completed, Failure, Guarded, Keep, op};
use crate::audit::{self, EmergencyRevocation, Object, Verb};
use crate::store::model::{Key, Liftable};
use crate::store::rules;

impl Broker {
    /// The answer to a repeated enable, which is never carried out again: the key as it is now, and what became of the
    /// first request at the providers, `at_provider`. A disable that came after the first request stays in force.
    ///
    /// # Errors
    /// `not_found` when the key was detached meanwhile.
    pub fn enable_repeated(
        &self,
        authorized: &Authorized<op::Enable>,
        at_provider: Option<AtProvider>,
    ) -> Result<Guarded<Completed<Switched>>, Failure> {
        let key = authorized.object();
        let row = Key::clone(&key.view()?.key);
        Ok(Guarded::free(switched(row, at_provider)))
    }

    /// Enables a key. With `at_provider` the provider comes first: if it refuses, nothing changes
    /// here. One that does not enable keys is not asked: the answer says so, and a record of its own.
    ///
    /// # Errors
    /// The provider's errors; `key_disabled` when a disable arrived meanwhile.
    pub async fn enable(
        &self,
        authorized: Authorized<op::Enable>,
        at_provider: bool,
        keep: Keep<Switched>,
    ) -> Result<Guarded<Completed<Switched>>, Failure> {
        let (cx, key) = (authorized.cx(), authorized.object());
        let revocations = key.revocations().seen();
        let change = audit::StateChange::new(Verb::Enable, Object::Key, &key.id());
        let (_turn, told, undone, change) = if at_provider {
            let turn = turn_at_provider(cx, key).await?;
            let (switches, (told, undone)) = self.switches(key).await?;
            let change = if switches.is_empty() { change } else { change.at_provider() };
            let change = self.announce(cx, change).await?;
            // A repeated request does it again.
            cx.set_noted();
            self.enable_all(cx, key, &switches).await?;
            (Some(turn), Some(told), undone, change)
        } else {
            (None, None, None, self.announce(cx, change).await?)
        };
        let one_at_a_time = key.change().lock().await;
        // A disable that came after this request began wins.
        if key.revocations().seen() != revocations {
            return Err(Failure::new(Code::KeyDisabled, "The key was disabled while it was being enabled."));
        }
        let before = Key::clone(&key.view()?.key);
        let mut after = before.clone();
        rules::set_disabled(&mut after, false, self.now());
        // If the commit fails, the enable may still be in the store after a crash. So count the
        // lift in memory first: a disable from here on is recorded with the higher number, and a
        // start does not mistake it for an older one. If an earlier commit failed, the number in
        // memory is higher than the store's, so raise the store's number before the commit adds 1.
        self.store.raise_lifts(key.tenant(), Liftable::Key(key.id()), before.lifts).await?;
        key.put(
            Key {
                lifts: after.lifts,
                ..before
            },
            None,
        );
        let at = after.updated;
        let after = switched(after, told.clone());
        let change = change.keeping(keep.row(after.completion, &after.object, after.revision)?);
        let row = self.store.set_key_disabled(key.tenant(), key.id(), false, at, &change).await?;
        key.put_enabled(row.clone());
        self.revocation_lifted(key.tenant(), EmergencyRevocation::Disable(key.id())).await;
        // A disable must not wait for the log.
        drop(one_at_a_time);
        if let Some(undone) = undone {
            let recorded = self.conclude(cx, Ok(Guarded::free(())), &|_, _| (), &mut |_| ()).await;
            recorded.map_err(|unrecorded| unrecorded.failure().clone())?.into_value();
            cx.set_unfinished(undone);
        }
        Ok(Guarded::free(switched(row, told)))
    }
}
