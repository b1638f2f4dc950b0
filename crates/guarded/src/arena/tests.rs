#![allow(clippy::unwrap_used, reason = "a test stops where an expectation fails")]

use std::sync::Barrier;

use super::{Arena, ArenaConfig, ArenaError, LockedBytes, MAX_LEN, SLOT, STEP};

/// The bytes of the slot that was given back last.
fn freed(arena: &Arena) -> Vec<u8> {
    let free = arena.0.free.lock();
    let start = arena.start_of(*free.returned.last().unwrap());
    // SAFETY: the slot is free, and the free slots are locked here; mapped memory is initialised.
    unsafe { std::slice::from_raw_parts(start.as_ptr(), SLOT) }.to_vec()
}

fn read(value: &LockedBytes) -> Option<Vec<u8>> {
    value.copy()
}

#[test]
fn keeps_values_of_every_length_apart() {
    let arena = Arena::new(ArenaConfig::default());
    let lengths = [1, 16, 32, 64, 65, 128, 129, 1024, 1025, MAX_LEN];
    let values: Vec<_> = lengths
        .iter()
        .zip(1_u8..)
        .map(|(len, fill)| (arena.store(&vec![fill; *len]).unwrap(), vec![fill; *len]))
        .collect();
    for (value, expected) in &values {
        let copy = read(value).unwrap();
        assert_eq!((&copy, copy.capacity()), (expected, expected.len()));
        assert_eq!(value.len(), expected.len());
    }
    assert_eq!(arena.store(&[]).unwrap_err(), ArenaError::Length);
    assert_eq!(arena.store(&[0; MAX_LEN + 1]).unwrap_err(), ArenaError::Length);
}

#[test]
fn the_last_handle_zeroes() {
    let arena = Arena::new(ArenaConfig::default());
    let value = arena.store(&[0x5a; 32]).unwrap();
    let other = value.clone();
    drop(value);
    assert_eq!(read(&other), Some(vec![0x5a; 32]));
    drop(other);
    assert_eq!(freed(&arena), [0; SLOT]);
}

#[test]
fn a_wipe_zeroes_for_all_handles_and_can_be_repeated() {
    let arena = Arena::new(ArenaConfig::default());
    let value = arena.store(&[0x5a; 32]).unwrap();
    let other = value.clone();
    value.wipe();
    value.wipe();
    assert_eq!((read(&value), read(&other)), (None, None));
    assert!(value.is_wiped() && other.is_wiped());
    // SAFETY: the slot is this value's, and nobody writes to it now.
    let bytes = unsafe { std::slice::from_raw_parts(other.0.starts().next().unwrap().as_ptr(), 32) };
    assert_eq!(bytes, [0; 32]);
    // The slot is not given to another value while a handle is left.
    let next = arena.store(&[0x77; 32]).unwrap();
    drop((value, other));
    assert_eq!(read(&next), Some(vec![0x77; 32]));
}

#[test]
fn every_free_slot_serves_every_length() {
    let arena = Arena::new(ArenaConfig { max_bytes: STEP + 1 });
    assert_eq!(arena.capacity(), 2 * STEP);
    let (small, large) = (2 * STEP / SLOT, 2 * STEP / MAX_LEN);
    for _ in 0..3 {
        let values: Vec<_> = (0..small).map(|_| arena.store(&[2; 32]).unwrap()).collect();
        assert_eq!(arena.store(&[2; 32]).unwrap_err(), ArenaError::Full);
        // Every second one goes: what is left free is in pieces.
        let mut values: Vec<_> = values.into_iter().step_by(2).collect();
        values.extend((0..large / 2).map(|_| arena.store(&[1; MAX_LEN]).unwrap()));
        assert_eq!(arena.store(&[1; MAX_LEN]).unwrap_err(), ArenaError::Full);
        assert!(values[small / 2..].iter().all(|value| read(value).unwrap() == [1; MAX_LEN]));
        assert!(values[..small / 2].iter().all(|value| read(value).unwrap() == [2; 32]));
        let freed = values.pop().unwrap();
        // Too few slots take none.
        assert_eq!(arena.0.free.lock().len(), 0);
        drop(freed);
        assert_eq!(arena.0.free.lock().len(), MAX_LEN / SLOT);
    }
}

#[test]
fn a_value_takes_the_slots_that_it_is_charged_for() {
    let arena = Arena::new(ArenaConfig::default());
    for len in [1, 32, 64, 65, 1025, MAX_LEN] {
        let before = arena.0.free.lock().len();
        let value = arena.store(&vec![1; len]).unwrap();
        assert_eq!(SLOT * (before - arena.0.free.lock().len()), Arena::taken_by(len), "{len}");
        drop(value);
        assert_eq!(arena.0.free.lock().len(), before);
    }
}

#[test]
fn values_outlive_the_arenas_handle() {
    let arena = Arena::new(ArenaConfig::default());
    let value = arena.store(b"still here").unwrap();
    drop(arena);
    assert_eq!(read(&value).as_deref(), Some(b"still here".as_slice()));
}

#[test]
fn readers_see_the_whole_value_or_none() {
    let arena = Arena::new(ArenaConfig::default());
    let rounds = if cfg!(miri) { 5 } else { 200 };
    for _ in 0..rounds {
        let value = arena.store(&[0x5a; 200]).unwrap();
        let barrier = Barrier::new(4);
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    barrier.wait();
                    while let Some(bytes) = read(&value) {
                        assert_eq!(bytes, [0x5a; 200]);
                    }
                });
            }
            barrier.wait();
            value.wipe();
        });
    }
}

#[test]
fn nothing_is_printed() {
    let arena = Arena::new(ArenaConfig::default());
    let value = arena.store(b"hunter2").unwrap();
    assert_eq!(format!("{value:?} {arena:?}"), "LockedBytes(7 bytes) Arena");
}

/// `VmLck` and the flags of the mapping are what the kernel itself says of it.
#[test]
#[cfg(all(target_os = "linux", not(miri)))]
fn the_kernel_says_that_it_is_locked_and_kept_out_of_dumps() {
    let arena = Arena::new(ArenaConfig::default());
    let value = arena.store(&[1; 32]).unwrap();
    let maps = std::fs::read_to_string("/proc/self/smaps").unwrap();
    let address = value.0.starts().next().unwrap().as_ptr().addr();
    let mut inside = false;
    let flags = maps.lines().find_map(|line| {
        if let Some((from, to)) = line.split(' ').next().and_then(|range| range.split_once('-'))
            && let (Ok(from), Ok(to)) = (usize::from_str_radix(from, 16), usize::from_str_radix(to, 16))
        {
            inside = (from..to).contains(&address);
        }
        line.strip_prefix("VmFlags:").filter(|_| inside)
    });
    let flags: Vec<_> = flags.unwrap().split_whitespace().collect();
    for (hardening, flag) in arena.hardening().into_iter().zip(["lo", "dd", "dc"]) {
        assert_eq!(hardening.result.is_ok(), flags.contains(&flag), "{} {flags:?}", hardening.name);
    }
    assert!(flags.contains(&"dd") && flags.contains(&"dc"), "{flags:?}");
}
