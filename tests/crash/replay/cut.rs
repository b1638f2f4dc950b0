//! Calls in which a process was killed: what `strace` does not tell of them.

use std::fs;
use std::path::Path;

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
    let path = folder.path().join("zeros");
    let name = named(folder.path(), "zeros");
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

/// A rename, a removal, a creation or another length, which the folder has whole or not at all.
pub fn names() {
    for took_effect in [false, true] {
        let temporary = tempfile::tempdir().expect("a folder");
        let folder = temporary.path();
        for name in ["old", "there", "gone", "long"] {
            fs::write(folder.join(name), name).expect("a file");
        }
        let mut history = History::of(folder, &[]);
        let [old, there, gone, new, long] = ["old", "there", "gone", "new", "long"].map(|name| named(folder, name));
        let record = format!(
            "6 openat(AT_FDCWD, \"{long}\", O_WRONLY) = 3\n\
             7 rename(\"{old}\", \"{there}\" <unfinished ...>\n\
             8 unlink(\"{gone}\" <unfinished ...>\n\
             9 openat(AT_FDCWD, \"{new}\", O_WRONLY|O_CREAT|O_EXCL, 0600 <unfinished ...>\n\
             6 ftruncate(3, 2 <unfinished ...>\n\
             7 <... rename resumed>) = ?\n\
             7 +++ killed by SIGKILL +++\n"
        );
        if took_effect {
            fs::rename(folder.join("old"), folder.join("there")).expect("renamed");
            fs::remove_file(folder.join("gone")).expect("removed");
            fs::write(folder.join("new"), "").expect("made");
            fs::write(folder.join("long"), "lo").expect("shortened");
        }
        history.add(calls(&record));
        let now = Disk::read(folder, &[]).0;
        history.settle(&now);
        history.now().assert_same(&now);
        assert_eq!(history.events.len(), if took_effect { 4 } else { 0 });
    }
}

/// A file's path as `strace` writes it.
fn named(folder: &Path, name: &str) -> String {
    let path = folder.canonicalize().expect("a folder").join(name);
    hex(path.as_os_str().as_encoded_bytes())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("\\x{byte:02x}")).collect()
}
