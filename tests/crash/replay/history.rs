//! What happened to a folder: its changes, the syncs that made them durable, and the responses that
//! were sent, in the order of the system calls.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use super::disk::{Change, Disk, Node, ROOT};
use super::trace::{Call, strings};

/// The header of a response that names its request.
const REQUEST_ID: &[u8] = b"x-request-id: ";

/// A change, and when it began and ended.
#[derive(Debug, Clone)]
pub struct Event {
    pub change: Change,
    pub begin: usize,
    end: usize,
    /// When a sync had made it durable.
    pub durable: Option<usize>,
    /// The names before it, if the process ended in it, so that perhaps only a part took effect, or nothing.
    cut: Option<Vec<(Node, String, Option<Node>)>>,
}

/// A sync that succeeded.
#[derive(Debug, Clone, Copy)]
pub struct Sync {
    node: Node,
    begin: usize,
    /// When it ended.
    pub end: usize,
}

/// The history of a folder over several processes.
#[derive(Clone)]
pub struct History {
    folder: PathBuf,
    /// What the folder had at the beginning, all of it durable.
    pub before: Disk,
    /// What it has now.
    now: Disk,
    next: usize,
    /// The changes, in the order in which they took effect.
    pub events: Vec<Event>,
    /// The syncs, in the order in which they ended.
    pub syncs: Vec<Sync>,
    /// When the first response to each request began.
    pub responses: HashMap<String, usize>,
    /// The number of lines of all records so far.
    pub lines: usize,
}

/// An open file.
#[derive(Debug, Clone, Copy)]
struct Open {
    node: Node,
    at: u64,
    appends: bool,
}

/// The files that a process has open.
#[derive(Default)]
struct Table {
    open: Vec<Open>,
    descriptors: HashMap<i64, usize>,
}

impl Table {
    fn get(&mut self, descriptor: i64) -> Option<&mut Open> {
        let at = *self.descriptors.get(&descriptor)?;
        self.open.get_mut(at)
    }

    /// The file of a descriptor among a call's arguments, and its place there, which moves by the call's
    /// result.
    fn take(&mut self, call: &Call, argument: usize) -> Option<(Node, u64)> {
        assert_eq!(
            call.arguments[argument + 1],
            "NULL",
            "{}: an offset that is not the file's",
            call.name
        );
        let open = self.get(call.number(argument))?;
        open.at += call.result as u64;
        Some((open.node, open.at - call.result as u64))
    }

    fn node(&self, descriptor: i64) -> Option<Node> {
        self.descriptors.get(&descriptor).map(|at| self.open[*at].node)
    }
}

impl History {
    /// Of a folder as it is, without the files of these names.
    pub fn of(folder: &Path, without: &[&str]) -> Self {
        let folder = folder.canonicalize().expect("a folder");
        let (before, next) = Disk::read(&folder, without);
        Self {
            folder,
            now: before.clone(),
            before,
            next,
            events: Vec::new(),
            syncs: Vec::new(),
            responses: HashMap::new(),
            lines: 0,
        }
    }

    /// What the folder has now.
    pub fn now(&self) -> &Disk {
        &self.now
    }

    /// Adds what one process did.
    pub fn add(&mut self, mut calls: Vec<Call>) {
        let last = calls
            .iter()
            .map(|call| call.end)
            .filter(|end| *end != usize::MAX)
            .max()
            .unwrap_or(0);
        for call in &mut calls {
            if call.end == usize::MAX {
                // The process was ended in it, so no response followed it.
                call.end = last + 1;
            }
            call.begin += self.lines;
            call.end += self.lines;
        }
        // A descriptor is taken when its call ends, and free as soon as the call that closes it begins.
        calls.sort_by_key(|call| match call.name.as_str() {
            "close" | "write" | "pwrite64" | "writev" | "fsync" | "fdatasync" | "sendto" | "sendmsg" => (call.begin, 1),
            _ => (call.end, 0),
        });
        let mut table = Table::default();
        for call in &calls {
            self.add_call(&mut table, call);
        }
        self.syncs.sort_by_key(|sync| sync.end);
        self.lines += last + 2;
        self.find_durable();
    }

    /// Leaves of the changes in which a process ended what the folder has of them now.
    pub fn settle(&mut self, folder: &Disk) {
        let now = &mut self.now;
        self.events.retain_mut(|event| {
            let Some(before) = event.cut.take() else { return true };
            match &mut event.change {
                Change::Write { file, offset, bytes } => {
                    let Some(content) = now.copy_of_its_name(*file, folder) else {
                        return true;
                    };
                    let there = content.get(*offset as usize..).unwrap_or_default();
                    let kept = bytes.iter().zip(there).take_while(|(ours, theirs)| ours == theirs).count();
                    *bytes = bytes[..kept].into();
                    kept > 0
                }
                Change::Resize { file, length } => {
                    let content = now.copy_of_its_name(*file, folder);
                    content.is_none_or(|content| content.len() as u64 == *length)
                }
                Change::Grow { file, length } => {
                    let content = now.copy_of_its_name(*file, folder);
                    content.is_none_or(|content| content.len() as u64 >= *length)
                }
                Change::Names(names) => {
                    let took_effect = now.has_names_of(names, folder);
                    if !took_effect {
                        now.apply(&Change::Names(before));
                    }
                    took_effect
                }
            }
        });
    }

    fn find_durable(&mut self) {
        for event in &mut self.events {
            let node = event.change.node();
            let by = self.syncs.iter().find(|sync| sync.node == node && sync.begin > event.end);
            event.durable = by.map(|sync| sync.end);
        }
    }

    /// The names of what was synced at least this often and still has a name.
    pub fn synced(&self, least: usize) -> Vec<String> {
        let mut many: BTreeMap<Node, usize> = BTreeMap::new();
        for sync in &self.syncs {
            *many.entry(sync.node).or_default() += 1;
        }
        let often = many.into_iter().filter(|(_, many)| *many >= least);
        often.filter_map(|(node, _)| self.now.name_of(node)).collect()
    }

    /// The same history, had nothing with this name been synced.
    pub fn without_syncs_of(mut self, name: &str) -> Self {
        self.syncs.retain(|sync| self.now.name_of(sync.node).as_deref() != Some(name));
        self.find_durable();
        self
    }

    fn add_call(&mut self, table: &mut Table, call: &Call) {
        let name = call.name.as_str();
        if let "sendto" | "sendmsg" | "writev" | "write" = name {
            self.note_response(table, call);
        }
        if call.result < 0 {
            if let "fsync" | "fdatasync" = name
                && let Some(node) = table.node(call.number(0))
            {
                self.leave_clean(node);
            }
            return;
        }
        match name {
            "open" | "creat" | "openat" => self.open(table, call),
            "close" => drop(table.descriptors.remove(&call.number(0))),
            "dup" | "dup2" | "dup3" => copy(table, call.number(0), call.result),
            "fcntl" if call.arguments[1].starts_with("F_DUPFD") => copy(table, call.number(0), call.result),
            "write" => {
                let Some(open) = table.get(call.number(0)) else { return };
                let offset = if open.appends { self.now.length(open.node) } else { open.at };
                open.at = offset + call.result as u64;
                let file = open.node;
                self.write(file, offset, call);
            }
            "copy_file_range" => {
                let (from, to) = (table.take(call, 0), table.take(call, 2));
                let Some((file, offset)) = to else { return };
                let (from, at) = from.expect("a copy of a file of the folder");
                let bytes = self.now.part(from, at, call.result as u64).into();
                self.change(call, Change::Write { file, offset, bytes });
            }
            "pwrite64" => {
                let Some(file) = table.node(call.number(0)) else { return };
                self.write(file, call.number(3) as u64, call);
            }
            "lseek" => {
                if let Some(open) = table.get(call.number(0)) {
                    open.at = call.result as u64;
                }
            }
            "ftruncate" => {
                let Some(file) = table.node(call.number(0)) else { return };
                let length = call.number(1) as u64;
                self.change(call, Change::Resize { file, length });
            }
            "fallocate" => {
                let Some(file) = table.node(call.number(0)) else { return };
                assert_eq!(call.arguments[1], "0", "a mode of fallocate that is not known here");
                let length = (call.number(2) + call.number(3)) as u64;
                self.change(call, Change::Grow { file, length });
            }
            "fsync" | "fdatasync" => {
                let Some(node) = table.node(call.number(0)) else { return };
                self.syncs.push(Sync {
                    node,
                    begin: call.begin,
                    end: call.end,
                });
            }
            "rename" | "renameat" | "renameat2" => self.rename(table, call),
            "link" | "linkat" => {
                let (from, to) = self.paths(table, call);
                let Some((folder, name)) = self.place(&to) else { return };
                let node = self.node(&from).expect("the link's file");
                self.change(call, Change::Names(vec![(folder, name, Some(node))]));
            }
            "unlink" | "unlinkat" | "rmdir" => {
                let path = self.paths(table, call).0;
                let Some((folder, name)) = self.place(&path) else { return };
                self.change(call, Change::Names(vec![(folder, name, None)]));
            }
            "mkdir" | "mkdirat" => {
                let path = self.paths(table, call).0;
                let Some((folder, name)) = self.place(&path) else { return };
                let node = self.draw();
                self.now.add_folder(node);
                self.before.add_folder(node);
                self.change(call, Change::Names(vec![(folder, name, Some(node))]));
            }
            "writev" | "pwritev" | "pwritev2" | "sendfile" | "splice" | "ioctl" | "sync_file_range" => {
                let to = if name == "splice" { 2 } else { 0 };
                let file = table.node(call.number(to));
                assert!(file.is_none(), "{name} on a file is not known here");
            }
            "truncate" | "symlink" | "symlinkat" | "sync" | "syncfs" => {
                assert!(
                    !format!("{call:?}").contains(&self.folder.display().to_string()),
                    "{name} is not known here"
                );
            }
            _ => {}
        }
    }

    /// A sync failed: what it should have made durable is read on, and no later sync writes it.
    fn leave_clean(&mut self, node: Node) {
        let syncs = &self.syncs;
        self.events
            .retain(|event| event.change.node() != node || syncs.iter().any(|sync| sync.node == node && sync.begin > event.end));
    }

    fn note_response(&mut self, table: &Table, call: &Call) {
        if table.node(call.number(0)).is_some() {
            return;
        }
        let bytes = strings(&call.arguments[1]);
        let mut rest = &bytes[..];
        // Several pipelined responses may be in one call.
        while let Some(at) = memchr::memmem::find(rest, REQUEST_ID) {
            rest = &rest[at + REQUEST_ID.len()..];
            let id: Vec<u8> = rest.iter().copied().take_while(|byte| *byte != b'\r').collect();
            let id = String::from_utf8(id).expect("a request id");
            self.responses.entry(id).or_insert(call.begin);
        }
    }

    fn draw(&mut self) -> Node {
        self.next += 1;
        Node(self.next - 1)
    }

    /// The folder and the name of a path, if it is below the folder that is recorded.
    fn place(&self, path: &Path) -> Option<(Node, String)> {
        let below = path.strip_prefix(&self.folder).ok()?;
        let name = below.file_name()?.to_str().expect("a name in UTF-8").to_owned();
        let folder = below.parent().map_or(Some(ROOT), |parent| self.now.find(parent));
        Some((folder.expect("the folder of a file"), name))
    }

    /// A path among the arguments. One that begins in the folder has the folder's descriptor before it.
    fn path(&self, table: &Table, call: &Call, at: usize) -> PathBuf {
        let path = call.path(at);
        let folder = at.checked_sub(1).and_then(|before| call.arguments[before].parse().ok());
        match folder.and_then(|descriptor| self.now.path_of(table.node(descriptor)?)) {
            Some(folder) if path.is_relative() => self.folder.join(folder).join(path),
            _ => path,
        }
    }

    /// The paths that a call names, in their order.
    fn paths(&self, table: &Table, call: &Call) -> (PathBuf, PathBuf) {
        let mut paths = (0..call.arguments.len())
            .filter(|at| call.arguments[*at].starts_with('"'))
            .map(|at| self.path(table, call, at));
        let first = paths.next().expect("a path");
        (first, paths.next().unwrap_or_default())
    }

    fn node(&self, path: &Path) -> Option<Node> {
        self.now.find(path.strip_prefix(&self.folder).ok()?)
    }

    fn open(&mut self, table: &mut Table, call: &Call) {
        let at = usize::from(call.name == "openat");
        let path = self.path(table, call, at);
        let flags = call.arguments.get(at + 1).map_or("O_CREAT|O_TRUNC", String::as_str);
        let has = |flag: &str| flags.split('|').any(|found| found == flag);
        let found = if path == self.folder { Some(ROOT) } else { self.node(&path) };
        let node = match found {
            Some(node) => node,
            None if has("O_CREAT") => {
                let Some((folder, name)) = self.place(&path) else {
                    table.descriptors.remove(&call.result);
                    return;
                };
                let node = self.draw();
                self.change(call, Change::Names(vec![(folder, name, Some(node))]));
                node
            }
            None => {
                assert!(self.place(&path).is_none(), "{} was opened and is not known", path.display());
                table.descriptors.remove(&call.result);
                return;
            }
        };
        if has("O_TRUNC") && self.now.length(node) > 0 {
            self.change(call, Change::Resize { file: node, length: 0 });
        }
        table.open.push(Open {
            node,
            at: 0,
            appends: has("O_APPEND"),
        });
        table.descriptors.insert(call.result, table.open.len() - 1);
    }

    fn write(&mut self, file: Node, offset: u64, call: &Call) {
        let mut bytes = call.bytes(1);
        bytes.truncate(call.result as usize);
        let bytes = bytes.into();
        self.change(call, Change::Write { file, offset, bytes });
    }

    fn rename(&mut self, table: &Table, call: &Call) {
        let (from, to) = self.paths(table, call);
        let Some((folder, name)) = self.place(&to) else { return };
        let node = self.node(&from).expect("the renamed file");
        let (old_folder, old_name) = self.place(&from).expect("a name below the folder");
        self.change(call, Change::Names(vec![(old_folder, old_name, None), (folder, name, Some(node))]));
    }

    fn change(&mut self, call: &Call, change: Change) {
        let cut = call.is_cut.then(|| self.now.names_before(&change));
        self.now.apply(&change);
        self.events.push(Event {
            change,
            begin: call.begin,
            end: call.end,
            durable: None,
            cut,
        });
    }
}

/// Gives an open file another descriptor.
fn copy(table: &mut Table, from: i64, to: i64) {
    match table.descriptors.get(&from).copied() {
        Some(at) => drop(table.descriptors.insert(to, at)),
        None => drop(table.descriptors.remove(&to)),
    }
}
