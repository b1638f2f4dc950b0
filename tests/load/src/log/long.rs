//! Makes a log longer without writing it: closed segments that have a header line and no content.

use std::fs::File;
use std::io::Write;
use std::path::Path;

use claviger_test_support::{log_end, log_files};
use serde_json::{Value, json};

/// The length of a segment, but for the last.
const SEGMENT: u64 = 64 << 20;
/// The length of the last one.
const LAST: u64 = 1 << 20;
/// The beginning of the sidecar's first line, which the checksum of the rest follows.
const MAGIC: &str = "claviger-audit-index/1 ";

/// Makes the log of a gateway that has ended in order about so many bytes long. The files take no room, and
/// nothing but their length and first line is ever read of them. The log goes on behind them.
pub fn lengthen(data: &Path, bytes: f64) {
    let path = data.join("audit.index");
    let text = std::fs::read_to_string(&path).expect("the sidecar");
    let (_, rest) = text.split_once('\n').expect("its first line");
    let mut index: Value = serde_json::from_str(rest).expect("JSON");
    assert_eq!(index["clean"], true, "the gateway did not end in order");
    let (installation, node) = (text_of(&index["installation"]), text_of(&index["node"]));
    let header = |position: u64| format!("claviger-audit-log/2 {installation} {node} {position}\n");

    // The segment that was the last one is closed: it ends where the next one begins.
    let (start, _) = log_files(data).pop().expect("a file of the log");
    let (last, end) = log_end(data);
    File::options()
        .write(true)
        .open(last)
        .and_then(|file| file.set_len(end))
        .expect("its length");
    let mut position = start + end;
    let segment = |position: u64, length: u64| {
        let mut file = File::create_new(data.join(format!("audit-{position:020}.log"))).expect("a segment");
        file.write_all(header(position).as_bytes()).expect("its header line");
        file.set_len(length).expect("its length");
        file
    };
    while (position as f64) < bytes {
        segment(position, SEGMENT);
        position += SEGMENT;
    }
    let mut last = segment(position, LAST);
    let first = header(position).len() as u64;
    last.write_all(&vec![0; (LAST - first) as usize]).expect("zeros");
    last.sync_all().expect("a sync");

    index["offset"] = json!(position + first);
    index["commit"] = json!(position);
    let rest = index.to_string();
    let check = crc32c::crc32c(rest.as_bytes());
    std::fs::write(path, format!("{MAGIC}{check:08x}\n{rest}")).expect("the sidecar");
}

fn text_of(value: &Value) -> String {
    value.as_str().expect("a text").to_owned()
}
