#![allow(clippy::unwrap_used, reason = "a test stops where an expectation fails")]

use std::sync::Barrier;

use super::{Arena, ArenaConfig, ArenaError, CLASSES, LockedBytes, MAX_LEN, REGION_LEN, SlotStart};

/// The first `len` bytes of the slot that was given back last.
fn freed(arena: &Arena, class: usize, len: usize) -> Vec<u8> {
    let pool = arena.0.lock();
    let SlotStart(start) = pool.free[class].last().unwrap();
    // SAFETY: the slot is free, so the pool owns it, and the pool is locked here; mapped memory
    // is initialised, and every class has at least 64 bytes.
    unsafe { std::slice::from_raw_parts(start.as_ptr(), len) }.to_vec()
}

fn read(value: &LockedBytes) -> Option<Vec<u8>> {
    value.with(<[u8]>::to_vec)
}

#[test]
fn keeps_values_of_every_length_apart() {
    let arena = Arena::new(ArenaConfig::default());
    let lengths = [1, 16, 32, 64, 65, 256, 257, 1024, 1025, MAX_LEN];
    let values: Vec<_> = lengths
        .iter()
        .zip(1_u8..)
        .map(|(len, fill)| (arena.store(&vec![fill; *len]).unwrap(), vec![fill; *len]))
        .collect();
    for (value, expected) in &values {
        assert_eq!(read(value).as_ref(), Some(expected));
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
    assert_eq!(freed(&arena, 0, 32), [0; 32]);
}

#[test]
fn a_wipe_zeroes_for_all_handles_and_can_be_repeated() {
    let arena = Arena::new(ArenaConfig::default());
    let value = arena.store(&[0x5a; 32]).unwrap();
    let other = value.clone();
    value.wipe();
    value.wipe();
    assert_eq!((read(&value), read(&other)), (None, None));
    // SAFETY: the slot is this value's, and nobody writes to it now.
    let bytes = unsafe { std::slice::from_raw_parts(other.0.start.0.as_ptr(), 32) };
    assert_eq!(bytes, [0; 32]);
    // The slot is not given to another value while a handle is left.
    let next = arena.store(&[0x77; 32]).unwrap();
    drop((value, other));
    assert_eq!(read(&next), Some(vec![0x77; 32]));
}

#[test]
fn slots_are_used_again_and_the_bound_holds() {
    let arena = Arena::new(ArenaConfig { max_bytes: 2 * REGION_LEN });
    let small = REGION_LEN / CLASSES[0];
    let large = REGION_LEN / MAX_LEN;
    for _ in 0..3 {
        let mut values: Vec<_> = (0..large).map(|_| arena.store(&[1; MAX_LEN]).unwrap()).collect();
        assert_eq!(arena.store(&[1; MAX_LEN]).unwrap_err(), ArenaError::Full);
        values.extend((0..small).map(|_| arena.store(&[2; 32]).unwrap()));
        assert_eq!(arena.store(&[2; 32]).unwrap_err(), ArenaError::Full);
        // With one large slot free, a small value takes it rather than none.
        values.swap_remove(0);
        let guest = arena.store(&[3; 32]).unwrap();
        assert_eq!(read(&guest), Some(vec![3; 32]));
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
        let value = arena.store(&[0x5a; 64]).unwrap();
        let barrier = Barrier::new(4);
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    barrier.wait();
                    while let Some(bytes) = read(&value) {
                        assert_eq!(bytes, [0x5a; 64]);
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
    let address = value.0.start.0.as_ptr().addr();
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
