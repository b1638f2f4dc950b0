//! Reads the write-ahead log as `docs/audit-format.md` says, without the gateway's own code.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use serde_json::Value;

/// Every record in the log of a data folder, in order. A torn end is left out; checksums are the
/// format's own tests' business.
pub fn records(data: &Path) -> Vec<Value> {
    records_from(data, 0).0
}

/// The files of the log, the oldest first, each with the position of its first byte.
pub fn log_files(data: &Path) -> Vec<(u64, PathBuf)> {
    let entries = std::fs::read_dir(data).expect("the data folder");
    let names = entries.map(|entry| entry.expect("an entry").file_name().into_string().expect("a name"));
    let start = |name: &str| match name {
        "audit.log" => Some(0),
        _ => name.strip_prefix("audit-")?.strip_suffix(".log")?.parse().ok(),
    };
    let mut files: Vec<_> = names.filter_map(|name| Some((start(&name)?, data.join(&name)))).collect();
    files.sort_unstable();
    files
}

/// The file that is written to.
pub fn last_log_file(data: &Path) -> PathBuf {
    log_files(data).pop().expect("a file of the log").1
}

/// The file that is written to, and the offset in it at which the next record will be.
pub fn log_end(data: &Path) -> (PathBuf, u64) {
    let (start, file) = log_files(data).pop().expect("a file of the log");
    let (_, end) = records_from(data, start);
    (file, end - start)
}

/// The records from a place on that an earlier call gave, or all from 0, and the place
/// where the next call goes on.
pub fn records_from(data: &Path, place: u64) -> (Vec<Value>, u64) {
    let files = log_files(data);
    let place = place.max(files.first().expect("a file of the log").0);
    let first = files.partition_point(|(start, _)| *start <= place).saturating_sub(1);
    let mut bytes = Vec::new();
    for (start, path) in &files[first..] {
        // A closed file ends where the next one begins.
        let end = start.saturating_sub(place) as usize;
        bytes.resize(end, 0);
        let mut file = File::open(path).expect("the log");
        file.seek(SeekFrom::Start(place.saturating_sub(*start)))
            .expect("a place in the log");
        file.read_to_end(&mut bytes).expect("the log is read");
    }
    let mut at = 0;
    let mut records = Vec::new();
    while at + 8 <= bytes.len() {
        if bytes[at..].starts_with(b"claviger-audit-log/") {
            at += bytes[at..].iter().position(|byte| *byte == b'\n').expect("a header line") + 1;
            continue;
        }
        // A skip: the bytes up to its offset are lost.
        if bytes[at..].starts_with(&[0x40, 0, 0, 8]) {
            let Some(to) = bytes.get(at + 8..at + 16) else { break };
            at = (u64::from_be_bytes(to.try_into().expect("8 bytes")) - place) as usize;
            continue;
        }
        // The top bit marks a commit's first frame.
        let length = u32::from_be_bytes(bytes[at..at + 4].try_into().expect("4 bytes")) & 0x7fff_ffff;
        let end = at + 8 + length as usize;
        let Some(json) = bytes.get(at + 8..end) else { break };
        let Ok(record) = serde_json::from_slice(json) else { break };
        records.push(record);
        at = end;
    }
    (records, place + at as u64)
}

/// The records of one request.
pub fn records_of(data: &Path, request_id: &str) -> Vec<Value> {
    records(data)
        .into_iter()
        .filter(|record| record["request_id"] == request_id)
        .collect()
}
