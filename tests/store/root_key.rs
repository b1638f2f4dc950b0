//! The root key's file and the data folder's lock.

use std::fs::{Permissions, read, set_permissions, write};
use std::os::unix::fs::{PermissionsExt, symlink};

use aws_lc_rs::hmac;
use claviger::store::lock::{DataDir, LockError};
use claviger::store::sealing::{RootKey, RootKeyError};

use crate::support::{Folder, cases, refused};

cases! { alone:
    a_new_file_is_private_and_reads_back,
    an_existing_file_is_not_replaced,
    a_file_that_others_can_reach_is_refused,
    what_is_no_root_key_is_refused_without_a_word_of_it,
    what_is_no_file_is_refused,
    a_systemd_credential_may_carry_an_acl,
    the_lock_is_for_one_at_a_time,
    the_data_folder_is_made_private,
    a_data_folder_that_others_can_write_in_is_refused,
}

/// Two root keys are the same when what they derive is.
fn same(one: &RootKey, other: &RootKey) -> bool {
    let tag = hmac::sign(&one.idempotency_key(), b"");
    hmac::verify(&other.idempotency_key(), b"", tag.as_ref()).is_ok()
}

async fn a_new_file_is_private_and_reads_back() {
    let folder = Folder::new();
    let path = folder.path().join("key");
    let made = RootKey::generate_to_file(&path).unwrap();
    assert_eq!(path.metadata().unwrap().permissions().mode() & 0o7777, 0o600);
    let text = String::from_utf8(read(&path).unwrap()).unwrap();
    assert_eq!((text.len(), text.starts_with("clvroot1:"), text.ends_with('\n')), (53, true, true));
    assert!(same(&made, &RootKey::from_file(&path).unwrap()));
    assert!(same(&made, &RootKey::from_text(text.trim_end()).unwrap()));
    assert!(!same(&made, &folder.new_root_key()));
    set_permissions(&path, Permissions::from_mode(0o400)).unwrap();
    RootKey::from_file(&path).unwrap();
    // Nothing unfinished is left beside it.
    assert_eq!(folder.path().read_dir().unwrap().count(), 2);
}

async fn an_existing_file_is_not_replaced() {
    let folder = Folder::new();
    let path = folder.path().join("key");
    write(&path, "precious").unwrap();
    refused!(RootKey::generate_to_file(&path), RootKeyError::Io { .. });
    assert_eq!(read(&path).unwrap(), b"precious");
    assert_eq!(folder.path().read_dir().unwrap().count(), 1);
}

async fn a_file_that_others_can_reach_is_refused() {
    let folder = Folder::new();
    let path = folder.path().join("key");
    RootKey::generate_to_file(&path).unwrap();
    for mode in [0o644, 0o640, 0o620, 0o602, 0o601, 0o700] {
        set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        let error = RootKey::from_file(&path).unwrap_err();
        assert!(
            matches!(error, RootKeyError::TooWide { mode: told, .. } if told == mode),
            "{mode:o}: {error}"
        );
        assert!(error.to_string().contains(&format!("chmod 600 {}", path.display())), "{error}");
    }
    // A link does not hide the mode of what it leads to.
    let link = folder.path().join("link");
    symlink(&path, &link).unwrap();
    refused!(RootKey::from_file(&link), RootKeyError::TooWide { .. });
}

async fn what_is_no_root_key_is_refused_without_a_word_of_it() {
    let folder = Folder::new();
    let path = folder.path().join("key");
    RootKey::generate_to_file(&path).unwrap();
    let good = String::from_utf8(read(&path).unwrap()).unwrap();
    let long = format!("{}\n{}", good.trim_end(), "x".repeat(1 << 20));
    for bad in ["", "hunter2", &good[..30], &long, "clvroot1:hunter2"] {
        write(&path, bad).unwrap();
        let error = RootKey::from_file(&path).unwrap_err();
        assert!(matches!(error, RootKeyError::Malformed), "{error}");
        assert!(!format!("{error} {error:?}").contains("hunter2"));
    }
    write(&path, [0xff; 53]).unwrap();
    refused!(RootKey::from_file(&path), RootKeyError::Malformed);
}

async fn what_is_no_file_is_refused() {
    let folder = Folder::new();
    refused!(RootKey::from_file(&folder.path()), RootKeyError::NotAFile(_));
    refused!(RootKey::from_file(&folder.path().join("absent")), RootKeyError::Missing(_));
    // Nobody writes to the pipe: reading it must not wait.
    let pipe = folder.path().join("pipe");
    let made = std::process::Command::new("mkfifo")
        .args(["-m", "600"])
        .arg(&pipe)
        .status()
        .unwrap();
    assert!(made.success());
    refused!(RootKey::from_file(&pipe), RootKeyError::NotAFile(_));
}

async fn a_systemd_credential_may_carry_an_acl() {
    let folder = Folder::new();
    assert!(RootKey::from_credentials(&folder.path()).unwrap().is_none());
    let path = folder.path().join("claviger-root-key");
    let made = RootKey::generate_to_file(&path).unwrap();
    for mode in [0o400, 0o440] {
        set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        assert!(same(&made, &RootKey::from_credentials(&folder.path()).unwrap().unwrap()));
    }
    set_permissions(&path, Permissions::from_mode(0o444)).unwrap();
    refused!(RootKey::from_credentials(&folder.path()), RootKeyError::TooWide { .. });
}

async fn the_lock_is_for_one_at_a_time() {
    let folder = Folder::new();
    let held = DataDir::lock(&folder.path()).unwrap();
    assert_eq!(held.path(), folder.path());
    let error = DataDir::lock(&folder.path()).unwrap_err();
    assert!(matches!(error, LockError::Busy(_)), "{error}");
    assert!(error.to_string().contains(folder.path().to_str().unwrap()), "{error}");
    drop(held);
    DataDir::lock(&folder.path()).unwrap();
}

async fn the_data_folder_is_made_private() {
    let folder = Folder::new();
    let nested = folder.path().join("a/b");
    let held = DataDir::lock(&nested).unwrap();
    assert_eq!(held.path().metadata().unwrap().permissions().mode() & 0o7777, 0o700);
    let file = folder.path().join("file");
    write(&file, "").unwrap();
    refused!(DataDir::lock(&file), LockError::NotAFolder(_));
}

async fn a_data_folder_that_others_can_write_in_is_refused() {
    let folder = Folder::new();
    for mode in [0o770, 0o707, 0o777, 0o1777] {
        set_permissions(folder.path(), Permissions::from_mode(mode)).unwrap();
        let error = DataDir::lock(&folder.path()).unwrap_err();
        assert!(matches!(error, LockError::TooWide { mode: told, .. } if told == mode), "{error}");
        assert!(error.to_string().contains("chmod 700"), "{error}");
    }
    set_permissions(folder.path(), Permissions::from_mode(0o755)).unwrap();
    DataDir::lock(&folder.path()).unwrap();
}
