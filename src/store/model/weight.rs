//! How large a page of a list becomes.

use super::{Connection, DetachedKey, Key, KeyVersion, Labels, Page, Principal, Tenant, Token};

impl Page {
    /// The bytes that end a page, whatever its size: with the row that reaches them.
    pub const BYTES: usize = 1 << 20;

    /// Whether these rows are all that a page can have; a page that is not full is the last one.
    pub fn is_full<T: Weight>(&self, rows: &[T]) -> bool {
        usize::try_from(self.size).is_ok_and(|size| rows.len() >= size) || rows.iter().map(Weight::weight).sum::<usize>() >= Self::BYTES
    }
}

/// A row of a list, of which a page has only so many bytes.
pub trait Weight {
    /// About how many bytes its variable parts have in an answer.
    fn weight(&self) -> usize;
}

fn labels_weight(labels: &Labels) -> usize {
    labels.iter().map(|(name, value)| name.len() + json_weight(value) + 8).sum()
}

/// A text's bytes in JSON, which writes a control character as six.
fn json_weight(text: &str) -> usize {
    text.bytes().map(|byte| if byte < b' ' { 6 } else { 1 }).sum()
}

impl Weight for Key {
    fn weight(&self) -> usize {
        512 + labels_weight(&self.labels)
    }
}

impl Weight for DetachedKey {
    fn weight(&self) -> usize {
        self.key.weight()
    }
}

impl Weight for KeyVersion {
    fn weight(&self) -> usize {
        1024
    }
}

impl Weight for Connection {
    fn weight(&self) -> usize {
        512 + self.settings.len() + labels_weight(&self.labels)
    }
}

impl Weight for Tenant {
    fn weight(&self) -> usize {
        256
    }
}

impl Weight for Principal {
    fn weight(&self) -> usize {
        256
    }
}

impl Weight for Token {
    fn weight(&self) -> usize {
        512 + self.grants.len()
    }
}
