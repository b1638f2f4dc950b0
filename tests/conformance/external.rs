//! What external key managers have in common, whatever they speak.

use serde_json::Value;

use crate::bench::Bench;
use crate::entries::{Difference, Entry};

impl Entry {
    /// Whether its keys are in external custody.
    pub fn is_external(&self) -> bool {
        matches!(self.provider, "xks" | "kmip" | "pkcs11")
    }
}

impl Bench {
    /// Has the tenant's own administrator change keys, with a reason, where that one alone decides in external custody: whether
    /// data keys are cached, and whether they leave the key. Nothing on other entries, whose keys behave so by themselves.
    pub async fn owner_decides(&self, keys: &[&str], patch: &Value) {
        if !self.entry.is_external() {
            return;
        }
        let owner = self.limited(&["UpdateKey", "ReadKey", "CreateKey"]).await;
        let owner = owner.with_header("claviger-justification", "as at other providers");
        for key in keys {
            owner.patch(&format!("/v1/keys/{key}"), "*", patch).await.expect_status(200);
        }
    }
}

const fn leave(case: &'static str, says: &'static str) -> Difference {
    let reason = "as external custody: a data key leaves it for another key only with its owner's leave";
    Difference { case, says, reason }
}

const fn uncached(case: &'static str, says: &'static str) -> Difference {
    let reason = "as external custody: no data key is cached unless its owner turns that on";
    Difference { case, says, reason }
}

const NO_EXPORT: &str = "custody is external and export is not allowed";

/// Where the keys of an external key manager differ from the battery.
pub const EXTERNAL: &[Difference] = &[
    leave("rewrap::another_key_makes_a_fresh_one", NO_EXPORT),
    leave("rewrap::an_unsealed_source_needs_leave_and_is_sealed", NO_EXPORT),
    leave("rewrap::a_wrong_source_is_refused", NO_EXPORT),
    // The batch's second item is what the first, refused one should have made.
    leave("rewrap::a_context_and_a_batch", "/wrapped"),
    uncached("forged::a_seal_of_another_installation_is_none", "left: Bool(false)"),
    uncached("provider_calls::an_unwrap_has_its_calls", "the second unwrap is not cached"),
    Difference {
        case: "rewrap::what_is_current_stays_as_it_is",
        says: "left: (Bool(true)",
        reason: "as XKS, KMIP and PKCS#11: a key has no versions, so whether a wrapped key is current is not seen, and it is wrapped anew",
    },
];
