//! Reads the write-ahead log as `docs/audit-format.md` says, without the gateway's own code.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use serde_json::Value;

/// Every record in the log of a data folder, in the order of the file. A torn end is left
/// out; checksums are the format's own tests' business.
pub fn records(data: &Path) -> Vec<Value> {
    records_from(data, 0).0
}

/// The records from a place on that an earlier call gave, or all from 0, and the place
/// where the next call goes on.
pub fn records_from(data: &Path, place: u64) -> (Vec<Value>, u64) {
    let mut file = File::open(data.join("audit.log")).expect("the log");
    file.seek(SeekFrom::Start(place)).expect("a place in the log");
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).expect("the log is read");
    let mut at = match place {
        0 => bytes.iter().position(|byte| *byte == b'\n').expect("a header line") + 1,
        _ => 0,
    };
    let mut records = Vec::new();
    while at + 8 <= bytes.len() {
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
