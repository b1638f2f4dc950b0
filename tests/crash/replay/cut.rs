//! Calls in which a process was killed: what `strace` does not tell of them.

use std::fs;

use super::disk::Disk;
use super::history::History;
use super::trace::{calls, strings};

/// A response that the process was sending may have arrived, so it is in the record.
pub fn response() {
    let record = "7 sendto(9, \"\\x41\", 1, MSG_NOSIGNAL, NULL, 0 <unfinished ...>\n\
                  8 writev(9, [{iov_base=\"\\x42\", iov_len=1}], 1 <unfinished ...>\n\
                  7 <... sendto resumed>) = ?\n\
                  7 +++ killed by SIGKILL +++\n";
    let read: Vec<Vec<u8>> = calls(record).iter().map(|call| strings(&call.arguments[1])).collect();
    assert_eq!(read, [b"A", b"B"]);
}

/// A write that the process did not end may have written a part, which the folder shows.
pub fn write() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut history = History::of(folder.path(), &[]);
    let path = folder.path().canonicalize().expect("a folder").join("zeros");
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("\\x{byte:02x}")).collect::<String>();
    let name = hex(path.as_os_str().as_encoded_bytes());
    let record = format!(
        "7 openat(AT_FDCWD, \"{name}\", O_WRONLY|O_CREAT, 0600) = 3\n\
         7 write(3, \"{}\", 8 <unfinished ...>\n\
         7 <... write resumed>) = ?\n\
         7 +++ killed by SIGKILL +++\n",
        hex(&[0; 8])
    );
    fs::write(path, [0; 3]).expect("a part");
    history.add(calls(&record));
    let now = Disk::read(folder.path(), &[]).0;
    history.settle(&now);
    history.now().assert_same(&now);
}
