//! The forms in which a secret could stand somewhere, and the search for all of them at once.

use std::collections::BTreeMap;

use aho_corasick::{AhoCorasick, MatchKind};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};

/// What a canary is, for the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Sort {
    /// Bytes that a caller wrapped.
    Wrapped,
    /// A data key that the gateway made.
    DataKey,
    /// An API token's secret.
    Token,
    /// A value in an encryption context.
    Context,
    /// The PIN of a token.
    Pin,
    /// The secret of a connection.
    Credential,
}

/// Secrets to be searched for.
#[derive(Default)]
pub struct Canaries(Vec<(Sort, Vec<u8>)>);

impl Canaries {
    /// Adds one.
    pub fn add(&mut self, sort: Sort, secret: &[u8]) {
        assert!(secret.len() >= 16, "too short to be found by chance alone");
        self.0.push((sort, secret.to_vec()));
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// The search for all of them in every form.
    pub fn search(&self) -> Search {
        let mut patterns = Vec::new();
        let mut about = Vec::new();
        for (sort, secret) in &self.0 {
            for (form, pattern) in forms(secret) {
                patterns.push(pattern);
                about.push((*sort, form));
            }
        }
        let automaton = AhoCorasick::builder()
            .match_kind(MatchKind::Standard)
            .build(&patterns)
            .expect("the patterns fit");
        let longest = patterns.iter().map(Vec::len).max().unwrap_or(0);
        Search { automaton, about, longest }
    }
}

/// Raw, hex in both cases, and base64 in both alphabets at all three alignments: only the
/// characters that the secret alone decides.
fn forms(secret: &[u8]) -> Vec<(&'static str, Vec<u8>)> {
    let mut forms = vec![
        ("raw", secret.to_vec()),
        ("hex", hex::encode(secret).into_bytes()),
        ("hex", hex::encode_upper(secret).into_bytes()),
    ];
    for before in 0..3 {
        let mut bytes = vec![0; before];
        bytes.extend_from_slice(secret);
        let (first, last) = ((before * 8).div_ceil(6), bytes.len() * 8 / 6);
        let standard = &STANDARD_NO_PAD.encode(&bytes)[first..last];
        let url_safe = &URL_SAFE_NO_PAD.encode(&bytes)[first..last];
        forms.push(("base64", standard.as_bytes().to_vec()));
        if url_safe != standard {
            forms.push(("base64", url_safe.as_bytes().to_vec()));
        }
    }
    forms
}

/// Finds canaries.
pub struct Search {
    automaton: AhoCorasick,
    about: Vec<(Sort, &'static str)>,
    longest: usize,
}

/// How often each sort was found in each form.
pub type Found = BTreeMap<(Sort, &'static str), usize>;

impl Search {
    /// What stands in these bytes.
    pub fn find(&self, bytes: &[u8]) -> Found {
        let mut found = Found::new();
        for hit in self.automaton.find_overlapping_iter(bytes) {
            *found.entry(self.about[hit.pattern().as_usize()]).or_insert(0) += 1;
        }
        found
    }

    /// Bytes of the longest form.
    pub fn longest(&self) -> usize {
        self.longest
    }
}

/// The search sees what it is meant to see.
pub fn every_form_is_found() {
    let secret: Vec<u8> = (0..32).map(|n: u8| n.wrapping_mul(37) ^ 0xa5).collect();
    let mut canaries = Canaries::default();
    canaries.add(Sort::DataKey, &secret);
    let search = canaries.search();
    for before in 0..9 {
        let mut around = vec![0x5a; before];
        around.extend_from_slice(&secret);
        around.extend_from_slice(&[0x33; 5]);
        let texts = [
            ("raw", around.clone()),
            ("hex", hex::encode(&around).into_bytes()),
            ("hex", hex::encode_upper(&around).into_bytes()),
            ("base64", STANDARD_NO_PAD.encode(&around).into_bytes()),
            ("base64", URL_SAFE_NO_PAD.encode(&around).into_bytes()),
        ];
        for (form, text) in texts {
            let found = search.find(&text);
            assert_eq!(found.get(&(Sort::DataKey, form)), Some(&1), "{form} after {before} bytes");
        }
    }
    assert!(search.find(&[0; 1000]).is_empty());
    let mut other = secret.clone();
    other[31] ^= 1;
    assert!(search.find(&other).is_empty());
}
