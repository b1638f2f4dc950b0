//! The vectors of `tests/vectors/files`, which a generator that shares nothing with this crate wrote.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test stops where an expectation fails")]

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use claviger_encrypted_file::{Error, Reader, Writer};
use serde_json::Value;

fn vectors(kind: &str) -> BTreeMap<String, Value> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("../../tests/vectors/files")
        .join(kind);
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let all = files.map(|path| {
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        (name, serde_json::from_slice(&fs::read(path).unwrap()).unwrap())
    });
    all.collect()
}

fn bytes(vector: &Value, member: &str) -> Vec<u8> {
    hex::decode(vector[member].as_str().unwrap()).unwrap()
}

fn number(vector: &Value, member: &str) -> usize {
    usize::try_from(vector[member].as_u64().unwrap()).unwrap()
}

fn file(vector: &Value) -> Vec<u8> {
    STANDARD.decode(vector["file"].as_str().unwrap()).unwrap()
}

/// The content of all vectors, as the folder's README has it.
fn pattern(length: usize) -> Vec<u8> {
    let hashes = (0_u32..).map(|number| digest(&SHA256, &number.to_be_bytes()));
    let mut content = Vec::new();
    for hash in hashes {
        if content.len() >= length {
            break;
        }
        content.extend_from_slice(hash.as_ref());
    }
    content.truncate(length);
    content
}

fn open(file: &[u8], k: &[u8]) -> (Vec<u8>, Result<u64, Error>) {
    let mut content = Vec::new();
    let read = Reader::new(file).and_then(|reader| reader.read(k, &mut content));
    (content, read)
}

#[test]
fn good_files_open() {
    let all = vectors("good");
    assert!(all.len() >= 6);
    for (name, vector) in all {
        let (content, read) = open(&file(&vector), &bytes(&vector, "k"));
        let length = number(&vector, "plaintext_length");
        assert_eq!(read.unwrap(), length as u64, "{name}");
        assert_eq!(content, pattern(length), "{name}");
        assert_eq!(digest(&SHA256, &content).as_ref(), bytes(&vector, "plaintext_sha256"), "{name}");
    }
}

#[test]
fn bad_files_are_refused_for_their_reason() {
    let (good, all) = (vectors("good"), vectors("bad"));
    assert!(all.len() >= 59);
    for (name, vector) in all {
        let pieces = vector["pieces"].as_array().unwrap().iter();
        let pieces = pieces.map(|piece| match piece["of"].as_str() {
            Some(of) => file(&good[of])[number(piece, "from")..number(piece, "to")].to_vec(),
            None => bytes(piece, "hex"),
        });
        let (content, read) = open(&pieces.collect::<Vec<_>>().concat(), &bytes(&vector, "k"));
        let error = read.unwrap_err();
        assert_eq!(error.code(), vector["error"].as_str(), "{name}: {error}");
        let most = number(&vector, "authenticated_length");
        assert!(content.len() <= most, "{name}: {} bytes of {most}", content.len());
        assert_eq!(content, pattern(content.len()), "{name}");
    }
}

/// More chunks than the lowest byte of a number counts.
#[test]
fn what_is_written_opens_at_every_length() {
    let k = [7; 32];
    for length in [0, 1, 16_383, 16_384, 16_385, 300 * 16_384 + 5] {
        let content = pattern(length);
        let mut file = Vec::new();
        let written = Writer::new(b"envelope").unwrap().write(&k, &mut &content[..], &mut file);
        assert_eq!(written.unwrap(), length as u64);
        assert_eq!(file.len(), 8 + 8 + 56 + length + 16 * (length / 16_384 + 1));
        assert_eq!(Reader::new(&file[..]).unwrap().envelope(), b"envelope");
        let (opened, read) = open(&file, &k);
        assert_eq!(read.unwrap(), length as u64);
        assert!(opened == content, "{length}");
    }
}

#[test]
fn what_the_format_does_not_allow_is_not_written() {
    assert!(matches!(Writer::new(&[0; 16_385]), Err(Error::TooLong)));
    let short = Writer::new(b"").unwrap().write(&[0; 16], &mut &b""[..], &mut Vec::new());
    assert!(matches!(short, Err(Error::KeyLength)));
}
