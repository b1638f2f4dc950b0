//! Encrypted files.

use std::fs;

use crate::support::{Cli, mode, text};

/// More than one chunk.
const CONTENT: usize = 40_000;

#[test]
fn a_file_comes_back() {
    let cli = Cli::with_key();
    let (plain, sealed, again) = (cli.path("plain"), cli.path("sealed"), cli.path("again"));
    let content: Vec<u8> = (0..CONTENT).map(|at| (at % 251) as u8).collect();
    fs::write(&plain, &content).unwrap();
    let (context, wrong) = ("table=orders", "table=sales");
    let encrypt = [
        "encrypt",
        "orders",
        "--in",
        text(&plain),
        "--out",
        text(&sealed),
        "--context",
        context,
    ];
    let shown = cli.json(&encrypt);
    assert_eq!(shown["content_bytes"], CONTENT);
    assert_eq!((mode(&sealed), &fs::read(&sealed).unwrap()[..4]), (0o600, &b"CLF\x01"[..]));
    let decrypt = |context| ["decrypt", "--in", text(&sealed), "--out", text(&again), "--context", context];
    cli.bad(&decrypt(wrong), 6);
    assert!(!again.exists());
    cli.good(&decrypt(context));
    assert_eq!((fs::read(&again).unwrap(), mode(&again)), (content, 0o600));
    // Nothing is written over unasked.
    cli.bad(&decrypt(context), 2);
    cli.bad(&encrypt, 2);
    cli.good(&[
        "decrypt",
        "orders",
        "--in",
        text(&sealed),
        "--out",
        text(&again),
        "--context",
        context,
        "--force",
    ]);
}

#[test]
fn files_go_through_pipes() {
    let cli = Cli::with_key();
    let sealed = cli.piped(&["encrypt", "orders"], b"content");
    assert_eq!((sealed.code, sealed.err.as_str()), (0, ""));
    let opened = cli.piped(&["decrypt"], &sealed.out);
    assert_eq!((opened.code, opened.out.as_slice()), (0, &b"content"[..]));
}

#[test]
fn a_file_that_changed_is_refused_and_nothing_is_left_of_it() {
    let cli = Cli::with_key();
    let sealed = cli.piped(&["encrypt", "orders"], &[7; CONTENT]).out;
    let (file, again) = (cli.path("sealed"), cli.path("again"));
    let flipped = |at: usize| {
        let mut file = sealed.clone();
        file[at] ^= 1;
        file
    };
    let length = sealed.len();
    for (content, code) in [
        (flipped(0), "file_unrecognized"),
        (flipped(3), "file_version_unsupported"),
        (sealed[..40].to_vec(), "file_truncated"),
        (sealed[..length - 8_000].to_vec(), "file_damaged"),
        (flipped(length - 1), "file_damaged"),
        ([&sealed[..], b"x"].concat(), "file_damaged"),
        (flipped(length - CONTENT - 3 * 16 - 1), "file_header_mismatch"),
    ] {
        fs::write(&file, content).unwrap();
        let refused = cli.run(&["decrypt", "--in", text(&file), "--out", text(&again)]);
        assert_eq!(refused.code, 6, "{code}: {}", refused.err);
        assert!(refused.err.contains(code), "{code}: {}", refused.err);
        assert!(!again.exists(), "{code}");
    }
    let left = fs::read_dir(again.parent().unwrap())
        .unwrap()
        .map(|entry| entry.unwrap().file_name());
    let left: Vec<_> = left.filter(|name| name.to_string_lossy().starts_with(".tmp")).collect();
    assert!(left.is_empty(), "{left:?}");
}
