//! What external key managers have in common, whatever they speak.

use crate::entries::Difference;

const fn leave(case: &'static str, says: &'static str) -> Difference {
    let reason = "as external custody: a data key leaves it for another key only with its owner's leave";
    Difference { case, says, reason }
}

const fn uncached(case: &'static str, says: &'static str) -> Difference {
    let reason = "as external custody: no data key is cached unless its owner turns that on";
    Difference { case, says, reason }
}

const NO_EXPORT: &str = "custody is external and export is not allowed";
const NOT_TRUE: &str = "left: false";

/// Where the keys of an external key manager differ from the battery.
pub const EXTERNAL: &[Difference] = &[
    leave("rewrap::another_key_makes_a_fresh_one", NO_EXPORT),
    leave("rewrap::an_unsealed_source_needs_leave_and_is_sealed", NO_EXPORT),
    leave("rewrap::a_wrong_source_is_refused", NO_EXPORT),
    // The batch's second item is what the first, refused one should have made.
    leave("rewrap::a_context_and_a_batch", "/wrapped"),
    leave("states::a_disabled_key_does_nothing", NO_EXPORT),
    leave("states::a_severed_connection_does_nothing", NO_EXPORT),
    uncached("forged::a_seal_of_another_installation_is_none", "left: Bool(false)"),
    uncached("cache::a_cut_empties_it_and_what_follows_asks_the_provider", NOT_TRUE),
    uncached("cache::uses_are_counted", NOT_TRUE),
    uncached("provider_calls::an_unwrap_has_its_calls", "the second unwrap is not cached"),
    Difference {
        case: "rewrap::what_is_current_stays_as_it_is",
        says: "left: (Bool(true)",
        reason: "as XKS, KMIP and PKCS#11: a key has no versions, so whether a wrapped key is current is not seen, and it is wrapped anew",
    },
];
