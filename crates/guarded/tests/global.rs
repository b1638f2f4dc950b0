//! The zeroing allocator as a program's own: everything this test program does runs on it.

use std::alloc::System;
use std::collections::BTreeMap;

use claviger_guarded::ZeroOnFree;

#[global_allocator]
static HEAP: ZeroOnFree<System> = ZeroOnFree::new(System);

#[test]
fn a_program_runs_on_it() {
    let mut map = BTreeMap::new();
    for number in 0..10_000_u32 {
        map.entry(number % 97).or_insert_with(Vec::new).push(number.to_string());
    }
    let threads: Vec<_> = map
        .into_iter()
        .map(|(rest, texts)| std::thread::spawn(move || (rest, texts.concat().len())))
        .collect();
    let total: usize = threads
        .into_iter()
        .filter_map(|thread| thread.join().ok())
        .map(|(_, len)| len)
        .sum();
    assert_eq!(total, 10 + 90 * 2 + 900 * 3 + 9000 * 4);
    let mut shrinking = vec![1_u8; 1 << 20];
    shrinking.truncate(10);
    shrinking.shrink_to_fit();
    assert_eq!(shrinking, [1; 10]);
}
