//! Reads the write-ahead log as `docs/audit-format.md` says, without the gateway's own code.

use std::path::Path;

use serde_json::Value;

/// Every record in the log of a data folder, in the order of the file. A torn end is left
/// out; checksums are the format's own tests' business.
pub fn records(data: &Path) -> Vec<Value> {
    let bytes = std::fs::read(data.join("audit.log")).expect("the log");
    let header = bytes.iter().position(|byte| *byte == b'\n').expect("a header line") + 1;
    let mut at = header;
    let mut records = Vec::new();
    while at + 8 <= bytes.len() {
        // The top bit marks a commit's first frame.
        let length = u32::from_be_bytes(bytes[at..at + 4].try_into().expect("4 bytes")) & 0x7fff_ffff;
        let end = at + 8 + length as usize;
        let Some(json) = bytes.get(at + 8..end) else { break };
        let Ok(record) = serde_json::from_slice(json) else { break };
        records.push(record);
        at = end;
    }
    records
}

/// The records of one request.
pub fn records_of(data: &Path, request_id: &str) -> Vec<Value> {
    records(data)
        .into_iter()
        .filter(|record| record["request_id"] == request_id)
        .collect()
}
