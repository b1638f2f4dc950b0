//! Cursors: where the next page of a list starts, as text that a caller keeps.
//!
//! A cursor is sealed with XAES-256-GCM under a key that the root key derives: it shows nothing of
//! the list's rows, and survives a restart. It is bound to tenant, principal, route and filters. All
//! cursors have the same length, whatever name they contain.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use claviger_provider::Id;
use claviger_provider::xaes::XaesKey;

use super::{Broker, Failure, RequestContext};

/// Version of the format. This release reads and writes no other.
const FORMAT: u8 = 1;
/// Bytes of a position before its padding is cut off: names and ids in hex have at most 63.
const PADDED: usize = 64;

/// Where the next page of a list starts: after this name, id in hex, or number. A caller gets it
/// through [`Broker::seal_cursor`] only.
#[derive(Debug, PartialEq, Eq)]
pub struct Position(String);

impl Position {
    pub(super) const fn after(name: String) -> Self {
        Self(name)
    }
}

/// The list that a cursor belongs to, beside the caller.
#[derive(Debug, Clone, Copy)]
pub struct CursorScope<'a> {
    /// Method and path.
    pub route: &'a str,
    /// The filters by name, in any order.
    pub filters: &'a [(&'a str, &'a str)],
}

impl Broker {
    /// The cursor for a position in a list, for this caller.
    ///
    /// # Errors
    /// `internal` if the cipher fails.
    pub fn seal_cursor(&self, cx: &RequestContext, scope: CursorScope<'_>, Position(after): &Position) -> Result<String, Failure> {
        seal(&self.cursor_key, &bound(cx, scope), after).ok_or_else(|| Failure::internal(&"a cursor was not sealed"))
    }

    /// The position in a cursor of this list and caller. `None` for every other text, without a
    /// difference between a changed cursor and one of another list or caller.
    pub fn open_cursor(&self, cx: &RequestContext, scope: CursorScope<'_>, cursor: &str) -> Option<String> {
        open(&self.cursor_key, &bound(cx, scope), cursor)
    }
}

fn bound(cx: &RequestContext, scope: CursorScope<'_>) -> Vec<u8> {
    let caller = cx.caller();
    associated_data(caller.tenant().bytes(), caller.principal().bytes(), scope)
}

/// Each part after its length (u32, big-endian): no two lists have the same encoding.
fn associated_data(tenant: &[u8], principal: &[u8], scope: CursorScope<'_>) -> Vec<u8> {
    let mut filters = scope.filters.to_vec();
    filters.sort_unstable();
    let mut data = vec![FORMAT];
    let filters = filters.iter().flat_map(|(name, value)| [name.as_bytes(), value.as_bytes()]);
    for part in [tenant, principal, scope.route.as_bytes()].into_iter().chain(filters) {
        data.extend(u32::try_from(part.len()).unwrap_or(u32::MAX).to_be_bytes());
        data.extend(part);
    }
    data
}

/// The plaintext is the position's length in one byte, the position, and zeros.
fn seal(key: &XaesKey, bound: &[u8], after: &str) -> Option<String> {
    let mut plain = [0; PADDED];
    let (length, rest) = plain.split_first_mut()?;
    *length = u8::try_from(after.len()).ok()?;
    rest.get_mut(..after.len())?.copy_from_slice(after.as_bytes());
    let mut sealed = vec![FORMAT];
    sealed.extend(key.seal(bound, &plain).ok()?);
    Some(URL_SAFE_NO_PAD.encode(sealed))
}

fn open(key: &XaesKey, bound: &[u8], cursor: &str) -> Option<String> {
    let bytes = URL_SAFE_NO_PAD.decode(cursor).ok()?;
    let (FORMAT, sealed) = bytes.split_first().map(|(format, sealed)| (*format, sealed))? else {
        return None;
    };
    let opened = key.open(bound, sealed).ok()?;
    let (length, rest) = opened.expose().split_first()?;
    String::from_utf8(rest.get(..usize::from(*length))?.to_vec()).ok()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use claviger_provider::Secret;

    use super::*;

    fn key(byte: u8) -> XaesKey {
        XaesKey::new(&Secret::copy_from(&[byte; 32])).unwrap()
    }

    const NO_FILTER: CursorScope<'static> = CursorScope {
        route: "GET /v1/keys",
        filters: &[],
    };

    #[test]
    fn it_opens_for_its_list_and_caller_only() {
        let scope = CursorScope {
            filters: &[("state", "enabled"), ("label", "a=b")],
            ..NO_FILTER
        };
        let bound = associated_data(b"t", b"p", scope);
        let cursor = seal(&key(1), &bound, "orders").unwrap();
        assert_eq!(open(&key(1), &bound, &cursor).as_deref(), Some("orders"));
        let in_another_order = CursorScope {
            filters: &[("label", "a=b"), ("state", "enabled")],
            ..NO_FILTER
        };
        assert_eq!(
            open(&key(1), &associated_data(b"t", b"p", in_another_order), &cursor).as_deref(),
            Some("orders")
        );
        for (tenant, principal, scope) in [
            ("u", "p", scope),
            ("t", "q", scope),
            ("tp", "", scope),
            ("t", "p", CursorScope { route: "GET /v1", ..scope }),
            ("t", "p", NO_FILTER),
            (
                "t",
                "p",
                CursorScope {
                    filters: &[("state", "enabled")],
                    ..scope
                },
            ),
            (
                "t",
                "p",
                CursorScope {
                    filters: &[("state", "enabled"), ("labela", "=b")],
                    ..scope
                },
            ),
        ] {
            let bound = associated_data(tenant.as_bytes(), principal.as_bytes(), scope);
            assert_eq!(open(&key(1), &bound, &cursor), None, "{tenant} {principal} {scope:?}");
        }
        assert_eq!(open(&key(2), &bound, &cursor), None);
    }

    #[test]
    fn every_flipped_bit_and_every_shorter_text_is_refused() {
        let bound = associated_data(b"t", b"p", NO_FILTER);
        let cursor = seal(&key(1), &bound, "orders").unwrap();
        let bytes = URL_SAFE_NO_PAD.decode(&cursor).unwrap();
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(open(&key(1), &bound, &URL_SAFE_NO_PAD.encode(flipped)), None, "bit {bit}");
        }
        for length in 0..cursor.len() {
            assert_eq!(open(&key(1), &bound, &cursor[..length]), None, "length {length}");
        }
    }

    #[test]
    fn it_shows_neither_name_nor_length_and_never_repeats() {
        let bound = associated_data(b"t", b"p", NO_FILTER);
        let cursors: Vec<String> = ["a", "a", &"z".repeat(63)]
            .iter()
            .map(|name| seal(&key(1), &bound, name).unwrap())
            .collect();
        assert_ne!(cursors[0], cursors[1]);
        assert_eq!(cursors[0].len(), cursors[2].len());
        assert_eq!(seal(&key(1), &bound, &"z".repeat(64)), None);
    }
}
