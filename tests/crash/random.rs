//! Random choices that a printed seed reproduces.

use std::time::{SystemTime, UNIX_EPOCH};

/// The seed of this run: `CLAVIGER_TEST_SEED`, or the clock. Prints it.
pub fn seed(test: &str) -> u64 {
    let given = std::env::var("CLAVIGER_TEST_SEED").ok();
    let seed = given.map_or_else(
        || {
            let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock after 1970");
            since.as_nanos() as u64
        },
        |text| text.parse().expect("CLAVIGER_TEST_SEED is a number"),
    );
    println!("{test}: CLAVIGER_TEST_SEED={seed}");
    seed
}

/// A number from an environment variable.
pub fn count(variable: &str, default: u64) -> u64 {
    std::env::var(variable).map_or(default, |text| text.parse().expect("a number"))
}

/// SplitMix64 (Steele, Lea, Flood 2014): small, and the same on every platform.
pub struct Random(u64);

impl Random {
    /// An independent generator for each stream of a seed.
    pub fn new(seed: u64, stream: u64) -> Self {
        let mut random = Self(seed ^ stream.wrapping_mul(0xd134_2543_de82_ef95));
        random.next();
        random
    }

    /// The next 64 bits.
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound`.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    /// A random element.
    pub fn pick<'a, T>(&mut self, from: &'a [T]) -> Option<&'a T> {
        let bound = u64::try_from(from.len()).expect("a length");
        (bound > 0).then(|| &from[self.below(bound) as usize])
    }

    /// That many random bytes.
    pub fn bytes(&mut self, length: usize) -> Vec<u8> {
        (0..length).map(|_| self.next() as u8).collect()
    }
}
