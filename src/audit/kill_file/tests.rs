//! Pushes, their failures, and the file that a start finds.
#![allow(clippy::unwrap_used, reason = "a test stops where an expectation fails")]

use std::fs;
use std::os::unix::fs::MetadataExt;

use super::share::OPERATORS;
use super::*;

fn entries() -> [KillEntry; 5] {
    let tenant = TenantId::random();
    let time = Timestamp::now();
    [
        EmergencyRevocation::Disable(KeyId::random()),
        EmergencyRevocation::Sever(ConnectionId::random()),
        EmergencyRevocation::Revoke(TokenId::random()),
        EmergencyRevocation::Suspend(tenant),
        EmergencyRevocation::DeletePrincipal(PrincipalId::random()),
    ]
    .map(|revocation| KillEntry {
        tenant,
        revocation: revocation.at_lifts(2),
        time,
    })
}

#[test]
fn pushed_revocations_survive_a_reopen_until_they_are_cleared() {
    let folder = tempfile::tempdir().unwrap();
    let installation = InstallationId::random();
    let [a, b, c, d, e] = entries();
    let file = KillFile::open(folder.path(), installation, false).unwrap();
    let size = || fs::metadata(folder.path().join(NAME)).unwrap().len();
    let before = size();
    for entry in [a, b, c, d, e, b] {
        file.push(entry).unwrap();
    }
    assert_eq!(size(), before, "a push must not need disk space");
    let file = KillFile::open(folder.path(), installation, false).unwrap();
    assert_eq!(file.entries(), [a, b, c, d, e]);
    file.clear(&[a, c]).unwrap();
    let file = KillFile::open(folder.path(), installation, false).unwrap();
    assert_eq!(file.entries(), [b, d, e]);
}

#[test]
fn a_push_torn_at_any_byte_leaves_the_others_and_never_another_entry() {
    let folder = tempfile::tempdir().unwrap();
    let installation = InstallationId::random();
    let path = folder.path().join(NAME);
    let [a, b, ..] = entries();
    KillFile::open(folder.path(), installation, false).unwrap().push(a).unwrap();
    let before = fs::read(&path).unwrap();
    let slot = encode(&b);
    for written in 0..=SLOT {
        let mut torn = before.clone();
        torn[2 * SLOT..2 * SLOT + written].copy_from_slice(&slot[..written]);
        fs::write(&path, &torn).unwrap();
        let file = KillFile::open(folder.path(), installation, false).unwrap();
        let whole = torn[2 * SLOT..3 * SLOT] == slot;
        assert_eq!(
            file.entries(),
            if whole { vec![a, b] } else { vec![a] },
            "torn after {written} bytes"
        );
        assert_eq!(file.damaged(), usize::from(written > 0 && !whole), "torn after {written} bytes");
        // The torn slot does not prevent the same push.
        file.push(b).unwrap();
        assert_eq!(KillFile::open(folder.path(), installation, false).unwrap().entries(), [a, b]);
    }
}

#[test]
fn a_flipped_bit_is_detected_and_cleared() {
    let folder = tempfile::tempdir().unwrap();
    let installation = InstallationId::random();
    let path = folder.path().join(NAME);
    let [a, b, ..] = entries();
    let file = KillFile::open(folder.path(), installation, false).unwrap();
    file.push(a).unwrap();
    file.push(b).unwrap();
    let good = fs::read(&path).unwrap();
    for bit in 0..SLOT * 8 {
        let mut bad = good.clone();
        bad[SLOT + bit / 8] ^= 1 << (bit % 8);
        fs::write(&path, &bad).unwrap();
        let file = KillFile::open(folder.path(), installation, false).unwrap();
        assert_eq!((file.entries(), file.damaged()), (vec![b], 1), "bit {bit}");
    }
    let file = KillFile::open(folder.path(), installation, false).unwrap();
    file.clear(&[]).unwrap();
    assert_eq!((file.entries(), file.damaged()), (vec![b], 0));
}

#[test]
fn another_installation_and_a_short_file_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let installation = InstallationId::random();
    drop(KillFile::open(folder.path(), installation, false).unwrap());
    let other = KillFile::open(folder.path(), InstallationId::random(), false);
    assert!(matches!(other, Err(KillFileError::Damaged)));
    let path = folder.path().join(NAME);
    File::options().write(true).open(&path).unwrap().set_len(100_000).unwrap();
    assert!(matches!(
        KillFile::open(folder.path(), installation, false),
        Err(KillFileError::Damaged)
    ));
}

#[test]
fn a_slot_of_an_earlier_build_has_no_lifts() {
    let folder = tempfile::tempdir().unwrap();
    let installation = InstallationId::random();
    let [entry, ..] = entries();
    KillFile::open(folder.path(), installation, false).unwrap().push(entry).unwrap();
    let path = folder.path().join(NAME);
    let mut bytes = fs::read(&path).unwrap();
    let mut slot: [u8; SLOT] = bytes[SLOT..2 * SLOT].try_into().unwrap();
    slot[48..60].fill(0);
    bytes[SLOT..2 * SLOT].copy_from_slice(&checked(slot));
    fs::write(&path, &bytes).unwrap();
    let [read] = <[KillEntry; 1]>::try_from(KillFile::open(folder.path(), installation, false).unwrap().entries()).unwrap();
    assert_eq!(read.revocation, entry.revocation.revocation.at_lifts(0));
    // More than a record can hold is damage.
    slot[48..56].fill(0xff);
    bytes[SLOT..2 * SLOT].copy_from_slice(&checked(slot));
    fs::write(&path, &bytes).unwrap();
    let file = KillFile::open(folder.path(), installation, false).unwrap();
    assert_eq!((file.entries(), file.damaged()), (Vec::new(), 1));
}

#[test]
fn a_revocation_takes_the_slot_of_one_that_was_lifted() {
    let folder = tempfile::tempdir().unwrap();
    let installation = InstallationId::random();
    let [old, other, ..] = entries();
    let mut file = KillFile::open(folder.path(), installation, false).unwrap();
    file.push(old).unwrap();
    file.push(other).unwrap();
    let again = |lifts| KillEntry {
        revocation: old.revocation.revocation.at_lifts(lifts),
        ..old
    };
    for (pushed, kept) in [(1, 2), (2, 2), (3, 3), (2, 3)] {
        file.push(again(pushed)).unwrap();
        assert_eq!(file.entries(), [again(kept), other], "pushed {pushed}");
        file = KillFile::open(folder.path(), installation, false).unwrap();
        assert_eq!(file.entries(), [again(kept), other], "pushed {pushed}");
    }
}

#[test]
fn the_file_is_bounded() {
    let folder = tempfile::tempdir().unwrap();
    let file = KillFile::open(folder.path(), InstallationId::random(), false).unwrap();
    let [entry, ..] = entries();
    file.inner.lock().slots.fill(Slot::Taken(entry));
    let other = KillEntry {
        tenant: TenantId::random(),
        ..entry
    };
    assert!(matches!(file.push(other), Err(KillFileError::Full)));
}

#[test]
fn a_start_writes_the_file_anew_with_all_that_it_has() {
    let folder = tempfile::tempdir().unwrap();
    let installation = InstallationId::random();
    let path = folder.path().join(NAME);
    let [a, b, ..] = entries();
    let file = KillFile::open(folder.path(), installation, false).unwrap();
    file.push(a).unwrap();
    // As `cp` makes it where files share their blocks.
    let copy = folder.path().join("copy");
    fs::hard_link(&path, &copy).unwrap();
    let file = KillFile::open(folder.path(), installation, false).unwrap();
    assert_eq!(file.standing(), KillFileStanding::Sound);
    assert_ne!(fs::metadata(&path).unwrap().ino(), fs::metadata(&copy).unwrap().ino());
    file.push(b).unwrap();
    assert_eq!(KillFile::open(folder.path(), installation, false).unwrap().entries(), [a, b]);
}

#[test]
fn a_file_that_cannot_be_written_anew_stays_in_use_until_it_can() {
    let folder = tempfile::tempdir().unwrap();
    let installation = InstallationId::random();
    let [a, b, ..] = entries();
    KillFile::open(folder.path(), installation, false).unwrap().push(a).unwrap();
    // A folder in its place, so that the new file cannot be made.
    let beside = folder.path().join("cuts.new");
    fs::create_dir(&beside).unwrap();
    let file = KillFile::open(folder.path(), installation, false).unwrap();
    assert_eq!(file.standing(), KillFileStanding::NotRenewed);
    assert!(file.renew().is_err());
    file.push(b).unwrap();
    fs::remove_dir(&beside).unwrap();
    file.renew().unwrap();
    assert_eq!(file.standing(), KillFileStanding::Sound);
    assert_eq!(KillFile::open(folder.path(), installation, false).unwrap().entries(), [a, b]);
}

#[test]
fn a_missing_file_is_reported_where_there_was_one() {
    for (beside, standing) in [
        (None, KillFileStanding::Sound),
        (Some("audit-00000000000000000000.log"), KillFileStanding::WasMissing),
        (Some("audit.log"), KillFileStanding::WasMissing),
        (Some(index::NAME), KillFileStanding::WasMissing),
    ] {
        let folder = tempfile::tempdir().unwrap();
        if let Some(name) = beside {
            fs::write(folder.path().join(name), b"").unwrap();
        }
        let file = KillFile::open(folder.path(), InstallationId::random(), false).unwrap();
        assert_eq!(file.standing(), standing, "{beside:?}");
    }
    let (folder, installation) = (tempfile::tempdir().unwrap(), InstallationId::random());
    let standing = |had_log| KillFile::open(folder.path(), installation, had_log).unwrap().standing();
    KillFile::open(folder.path(), installation, true).unwrap().start_refused();
    assert_eq!(standing(true), KillFileStanding::WasMissing, "the store knows of a log");
    // The start before was killed: it did not end.
    assert_eq!(standing(true), KillFileStanding::WasMissing);
    assert!(!folder.path().join(NAME).exists());
    // The next start finds one that a start in good order made.
    KillFile::open(folder.path(), installation, true).unwrap().start_accepted();
    assert_eq!(standing(true), KillFileStanding::Sound);
    // Or that took a revocation before the start was killed.
    fs::remove_file(folder.path().join(NAME)).unwrap();
    let [entry, ..] = entries();
    let file = KillFile::open(folder.path(), installation, true).unwrap();
    file.push(entry).unwrap();
    file.start_refused();
    assert_eq!(KillFile::open(folder.path(), installation, true).unwrap().entries(), [entry]);
    KillFile::open(folder.path(), installation, true).unwrap().start_refused();
    assert!(folder.path().join(NAME).exists(), "it was not missing");
}

#[test]
fn a_failed_push_takes_its_own_slot_again_and_no_other() {
    let folder = tempfile::tempdir().unwrap();
    let installation = InstallationId::random();
    let path = folder.path().join(NAME);
    let [a, b, ..] = entries();
    let file = KillFile::open(folder.path(), installation, false).unwrap();
    // A handle that cannot write, as on a disk that fails.
    let writable = std::mem::replace(&mut file.inner.lock().file, File::open(&path).unwrap());
    for _ in 0..3 {
        assert!(matches!(file.push(a), Err(KillFileError::Io(_))));
    }
    assert_eq!((file.entries(), file.damaged()), (Vec::new(), 1));
    file.inner.lock().file = writable;
    file.push(b).unwrap();
    file.push(a).unwrap();
    assert_eq!((file.entries(), file.damaged()), (vec![a, b], 0));
    assert_eq!(KillFile::open(folder.path(), installation, false).unwrap().entries(), [a, b]);
}

#[test]
fn a_tenant_that_takes_all_it_can_leaves_slots_for_others() {
    let folder = tempfile::tempdir().unwrap();
    let file = KillFile::open(folder.path(), InstallationId::random(), false).unwrap();
    let [entry, ..] = entries();
    // As many as it can get, without the syncs.
    let of = |tenant| KillEntry { tenant, ..entry };
    let fill = |tenant| {
        let mut inner = file.inner.lock();
        let mut taken = 0;
        while let Some(at) = inner.free_for(tenant) {
            inner.slots[at] = Slot::Taken(of(tenant));
            taken += 1;
        }
        taken
    };
    let [first, second] = [TenantId::random(), TenantId::random()];
    assert_eq!(file.standing(), KillFileStanding::Sound);
    assert_eq!(fill(first), (SLOTS - OPERATORS) / 2);
    assert_eq!(file.standing(), KillFileStanding::Full);
    assert!(matches!(
        file.push(KillEntry {
            revocation: EmergencyRevocation::Disable(KeyId::random()).at_lifts(0),
            ..of(first)
        }),
        Err(KillFileError::Full)
    ));
    assert_eq!(fill(second), (SLOTS - OPERATORS) / 4);
    file.push(of(TenantId::random())).unwrap();
    while fill(TenantId::random()) > 0 {}
    file.push(of(TenantId::INSTALLATION)).unwrap();
}
