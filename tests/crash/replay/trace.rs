//! Runs a command under `strace`, and reads the calls that it recorded.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::geteuid;

/// Calls that change files, name them, or send a response. A `?` allows for a name that this
/// architecture lacks.
const TRACED: &str = "trace=?open,openat,?creat,close,?dup,?dup2,dup3,fcntl,write,pwrite64,writev,pwritev,?pwritev2,\
    lseek,truncate,ftruncate,fallocate,fsync,fdatasync,sync,syncfs,sync_file_range,?rename,?renameat,renameat2,\
    ?link,linkat,?unlink,unlinkat,?mkdir,mkdirat,?rmdir,?symlink,symlinkat,copy_file_range,?sendfile,splice,ioctl,\
    sendto,sendmsg";
/// More than any write has, in bytes: a longer one would be recorded without its end.
const LONGEST: &str = "4194304";
/// The variable of the script that [`script`] makes: what starts the binary.
const STARTED_BY: &str = "STARTED_BY";
/// How long `strace` may take to write its last lines.
const LAST_LINES: Duration = Duration::from_secs(20);

/// Whether a gateway can be traced. Without root, `strace` cannot read the memory of a process that
/// allows no dumps.
pub fn can_trace() -> bool {
    let version = Command::new("strace").arg("-V").stdout(Stdio::null()).status();
    geteuid().is_root() && version.is_ok_and(|status| status.success())
}

/// A script that starts the binary by what the variables of [`recording`] or [`started_by`] name.
pub fn script(folder: &Path, binary: &str) -> PathBuf {
    let path = folder.join("claviger.sh");
    fs::write(&path, format!("#!/bin/sh\nexec ${STARTED_BY} '{binary}' \"$@\"\n")).expect("the script");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).expect("its mode");
    path
}

/// The variable with which the script's process is started by these words.
pub fn started_by(words: &str) -> (&'static str, String) {
    (STARTED_BY, words.to_owned())
}

/// The variable with which the script's process is recorded in this file. `strace` runs beside it, so
/// that the process id is the binary's.
pub fn recording(file: &Path) -> (&'static str, String) {
    started_by(&format!(
        "strace -D -f --seccomp-bpf -xx -s {LONGEST} -e {TRACED} -o {}",
        file.display()
    ))
}

/// One system call.
#[derive(Debug)]
pub struct Call {
    /// The thread that made it.
    pub thread: u32,
    /// Its name.
    pub name: String,
    /// Its arguments as `strace` writes them.
    pub arguments: Vec<String>,
    /// What it returned; negative for an error.
    pub result: i64,
    /// Whether the process ended in it, so that the result is the greatest that it can have had.
    pub is_cut: bool,
    /// The number of the line on which it began.
    pub begin: usize,
    /// The number of the line on which it ended.
    pub end: usize,
}

impl Call {
    /// A number among the arguments.
    pub fn number(&self, at: usize) -> i64 {
        let text = &self.arguments[at];
        // With `-y` or for flags there is more; ours are plain.
        text.parse().unwrap_or_else(|_| panic!("{}: {text} is no number", self.name))
    }

    /// A text among the arguments.
    pub fn bytes(&self, at: usize) -> Vec<u8> {
        let text = &self.arguments[at];
        assert!(!text.ends_with("..."), "{}: a text was recorded without its end", self.name);
        strings(text)
    }

    /// A path among the arguments.
    pub fn path(&self, at: usize) -> PathBuf {
        PathBuf::from(String::from_utf8(self.bytes(at)).expect("a path in UTF-8"))
    }
}

/// The bytes of all texts in an argument, one after another: `"\x61\x62"` is `ab`.
pub fn strings(argument: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(argument.len() / 4);
    for text in argument.split('"').skip(1).step_by(2) {
        let digits = text.as_bytes();
        assert!(digits.len() % 4 == 0, "a text that is not in hexadecimal: {text}");
        let digit = |byte: u8| char::from(byte).to_digit(16).expect("a digit") as u8;
        bytes.extend(digits.chunks(4).map(|byte| digit(byte[2]) << 4 | digit(byte[3])));
    }
    bytes
}

/// Waits until the record of a process that ended is whole, and reads its calls, in the order in
/// which they began.
pub fn read(file: &Path, process: u32) -> Vec<Call> {
    let until = Instant::now() + LAST_LINES;
    // The process's own end is the last line: its threads end before it.
    let last = format!("{process} ");
    loop {
        let text = fs::read_to_string(file).unwrap_or_default();
        let ended = text.lines().rev().find(|line| line.starts_with(&last));
        if ended.is_some_and(|line| line.contains("+++")) && text.ends_with('\n') {
            return calls(&text);
        }
        assert!(Instant::now() < until, "strace did not end: {ended:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Reads the calls of a whole record.
pub fn calls(text: &str) -> Vec<Call> {
    let mut begun: HashMap<u32, (usize, String)> = HashMap::new();
    let mut calls = Vec::new();
    for (at, line) in text.lines().enumerate() {
        let (thread, what) = line.split_once(' ').expect("a thread");
        // A call in which the process ended.
        let what = what.trim_start().replace(" <unfinished ...>)", ")");
        let id = thread.parse().expect("a thread's number");
        if what.starts_with("+++") || what.starts_with("---") || what.starts_with("???") {
            continue;
        }
        if let Some(half) = what.strip_suffix(" <unfinished ...>") {
            begun.insert(id, (at, half.to_owned()));
        } else if let Some(rest) = what.strip_prefix("<... ") {
            let (begin, half) = begun.remove(&id).unwrap_or_else(|| panic!("a call without its beginning: {line}"));
            let (_, rest) = rest.split_once(" resumed>").expect("a resumed call");
            calls.extend(call(id, &(half + rest), begin, at));
        } else {
            calls.extend(call(id, &what, at, at));
        }
    }
    // What had not ended when the process was killed may have taken effect.
    let last = begun
        .into_iter()
        .filter_map(|(id, (begin, half))| call(id, &format!("{half}) = ?"), begin, usize::MAX));
    calls.extend(last.collect::<Vec<_>>());
    calls.sort_by_key(|call| call.begin);
    calls
}

/// One call. A write that has no result, since the process ended in it, may have written everything or a part, a
/// response may have arrived, and names and lengths may have changed; of other calls without a result nothing is known.
fn call(thread: u32, line: &str, begin: usize, end: usize) -> Option<Call> {
    let (name, rest) = line.split_once('(')?;
    let (arguments, result) = rest.rsplit_once(" = ")?;
    let arguments = split(arguments.trim_end().strip_suffix(')')?);
    let result = result.split(' ').next()?;
    let is_cut = result == "?";
    let result = match result {
        "?" if matches!(name, "write" | "pwrite64") => arguments.get(2)?.parse().ok()?,
        // Of a response the result is not used.
        "?" if matches!(name, "sendto" | "sendmsg" | "writev") => 0,
        "?" if RENAMING.contains(&name) => 0,
        // A descriptor that no call uses.
        "?" if creates(name, &arguments) => i64::MAX,
        "?" => return None,
        // fcntl returns flags as `0x1 (flags ...)`.
        number => match number.strip_prefix("0x") {
            Some(digits) => i64::from_str_radix(digits, 16).ok()?,
            None => number.parse().ok()?,
        },
    };
    Some(Call {
        thread,
        name: name.to_owned(),
        arguments,
        result,
        is_cut,
        begin,
        end,
    })
}

/// Calls that change names or lengths and return no number.
const RENAMING: [&str; 12] = [
    "rename",
    "renameat",
    "renameat2",
    "link",
    "linkat",
    "unlink",
    "unlinkat",
    "rmdir",
    "mkdir",
    "mkdirat",
    "ftruncate",
    "fallocate",
];

/// Whether a call opens a file and may make or empty it.
fn creates(name: &str, arguments: &[String]) -> bool {
    let flags = match name {
        "creat" => return true,
        "open" => arguments.get(1),
        "openat" => arguments.get(2),
        _ => None,
    };
    flags.is_some_and(|flags| flags.contains("O_CREAT") || flags.contains("O_TRUNC"))
}

/// Splits arguments at the commas that are in no text, list or structure.
fn split(text: &str) -> Vec<String> {
    let (mut depth, mut quoted, mut parts) = (0, false, vec![String::new()]);
    for character in text.chars() {
        match character {
            '"' => quoted = !quoted,
            '[' | '{' | '(' if !quoted => depth += 1,
            ']' | '}' | ')' if !quoted => depth -= 1,
            ',' if !quoted && depth == 0 => {
                parts.push(String::new());
                continue;
            }
            _ => {}
        }
        parts.last_mut().expect("one").push(character);
    }
    parts.iter().map(|part| part.trim().to_owned()).collect()
}
