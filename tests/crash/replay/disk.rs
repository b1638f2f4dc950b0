//! Files and folders as a disk has them: contents by page, names by folder.

use std::collections::BTreeMap;
use std::collections::hash_map::DefaultHasher;
use std::fs;
use std::hash::{Hash, Hasher};
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

/// The unit in which contents are kept, in bytes.
const PAGE: usize = 4096;

/// A file or folder, whatever names it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Node(pub usize);

/// The folder that everything is in.
pub const ROOT: Node = Node(0);

/// A page with its hash.
#[derive(Debug)]
struct Page {
    bytes: [u8; PAGE],
    hash: u64,
}

impl Page {
    fn new(bytes: [u8; PAGE]) -> Arc<Self> {
        let mut hasher = DefaultHasher::new();
        hasher.write(&bytes);
        let hash = hasher.finish();
        Arc::new(Self { bytes, hash })
    }
}

/// A file's content. Pages of zeros are absent.
#[derive(Debug, Clone, Default)]
pub struct Content {
    length: u64,
    pages: BTreeMap<u64, Arc<Page>>,
}

impl Content {
    fn of(bytes: &[u8]) -> Self {
        let mut content = Self::default();
        content.write(0, bytes);
        content
    }

    fn write(&mut self, offset: u64, bytes: &[u8]) {
        let (mut at, mut rest) = (offset, bytes);
        while !rest.is_empty() {
            let (number, begin) = (at / PAGE as u64, at as usize % PAGE);
            let (part, more) = rest.split_at(rest.len().min(PAGE - begin));
            let mut page = self.pages.get(&number).map_or([0; PAGE], |page| page.bytes);
            page[begin..begin + part.len()].copy_from_slice(part);
            self.put(number, page);
            (at, rest) = (at + part.len() as u64, more);
        }
        self.grow(at);
    }

    fn put(&mut self, number: u64, page: [u8; PAGE]) {
        if page == [0; PAGE] {
            self.pages.remove(&number);
        } else {
            self.pages.insert(number, Page::new(page));
        }
    }

    fn grow(&mut self, length: u64) {
        self.length = self.length.max(length);
    }

    fn resize(&mut self, length: u64) {
        self.length = length;
        self.pages.retain(|number, _| number * (PAGE as u64) < length);
        let (number, rest) = (length / PAGE as u64, length as usize % PAGE);
        if let Some(mut page) = self.pages.get(&number).map(|page| page.bytes) {
            page[rest..].fill(0);
            self.put(number, page);
        }
    }

    fn bytes(&self) -> Vec<u8> {
        let mut bytes = vec![0; self.length as usize];
        for (number, page) in &self.pages {
            let at = *number as usize * PAGE;
            let end = bytes.len().min(at + PAGE);
            bytes[at..end].copy_from_slice(&page.bytes[..end - at]);
        }
        bytes
    }
}

/// One change of the disk.
#[derive(Debug, Clone)]
pub enum Change {
    /// Bytes at an offset of a file.
    Write {
        /// The file.
        file: Node,
        /// The offset, in bytes.
        offset: u64,
        /// The bytes.
        bytes: Arc<[u8]>,
    },
    /// The length of a file, in bytes.
    Resize {
        /// The file.
        file: Node,
        /// The length.
        length: u64,
    },
    /// The least length of a file, in bytes.
    Grow {
        /// The file.
        file: Node,
        /// The length.
        length: u64,
    },
    /// Names in folders, all at once: of a node, or of none any more.
    Names(Vec<(Node, String, Option<Node>)>),
}

impl Change {
    /// What has to be synced for the change to be durable.
    pub fn node(&self) -> Node {
        match self {
            Self::Write { file, .. } | Self::Resize { file, .. } | Self::Grow { file, .. } => *file,
            Self::Names(names) => names.last().expect("a name").0,
        }
    }
}

/// A tree of folders and files.
#[derive(Debug, Clone, Default)]
pub struct Disk {
    folders: BTreeMap<Node, BTreeMap<String, Node>>,
    files: BTreeMap<Node, Content>,
}

impl Disk {
    /// Reads a folder with all that is in it, but for the files with these names. The numbers of new
    /// nodes begin where the second value says.
    pub fn read(folder: &Path, without: &[&str]) -> (Self, usize) {
        let mut disk = Self::default();
        let mut next = ROOT.0 + 1;
        disk.read_folder(ROOT, folder, without, &mut next);
        (disk, next)
    }

    fn read_folder(&mut self, node: Node, path: &Path, without: &[&str], next: &mut usize) {
        self.folders.insert(node, BTreeMap::new());
        for entry in fs::read_dir(path).expect("a folder") {
            let entry = entry.expect("an entry");
            let name = entry.file_name().into_string().expect("a name in UTF-8");
            if without.contains(&name.as_str()) {
                continue;
            }
            let child = Node(*next);
            *next += 1;
            if entry.file_type().expect("its type").is_dir() {
                self.read_folder(child, &entry.path(), without, next);
            } else {
                let bytes = fs::read(entry.path()).expect("a file");
                self.files.insert(child, Content::of(&bytes));
            }
            self.folders.get_mut(&node).expect("it is there").insert(name, child);
        }
    }

    /// Applies a change.
    pub fn apply(&mut self, change: &Change) {
        match change {
            Change::Write { file, offset, bytes } => self.files.entry(*file).or_default().write(*offset, bytes),
            Change::Resize { file, length } => self.files.entry(*file).or_default().resize(*length),
            Change::Grow { file, length } => self.files.entry(*file).or_default().grow(*length),
            Change::Names(names) => {
                for (folder, name, node) in names {
                    let folder = self.folders.entry(*folder).or_default();
                    match node {
                        Some(node) => drop(folder.insert(name.clone(), *node)),
                        None => drop(folder.remove(name)),
                    }
                }
            }
        }
    }

    /// The names that a change gives or takes, as they are before it.
    pub fn names_before(&self, change: &Change) -> Vec<(Node, String, Option<Node>)> {
        let Change::Names(names) = change else { return Vec::new() };
        let before = |folder: &Node, name: &String| self.folders.get(folder)?.get(name).copied();
        names
            .iter()
            .map(|(folder, name, _)| (*folder, name.clone(), before(folder, name)))
            .collect()
    }

    /// Whether these names are, or are not, on another disk as they are here after a change.
    pub fn has_names_of(&self, names: &[(Node, String, Option<Node>)], other: &Self) -> bool {
        let is_there = |folder: Node, name: &String| Some(other.find(&self.path_of(folder)?.join(name)).is_some());
        names
            .iter()
            .all(|(folder, name, node)| is_there(*folder, name) == Some(node.is_some()))
    }

    /// Notes that a node is a folder.
    pub fn add_folder(&mut self, node: Node) {
        self.folders.entry(node).or_default();
    }

    /// The node at a path, relative to the root.
    pub fn find(&self, path: &Path) -> Option<Node> {
        path.components().try_fold(ROOT, |folder, part| match part {
            Component::Normal(name) => self.folders.get(&folder)?.get(name.to_str()?).copied(),
            _ => Some(folder),
        })
    }

    /// The path of a folder, relative to the root.
    pub fn path_of(&self, folder: Node) -> Option<PathBuf> {
        if folder == ROOT {
            return Some(PathBuf::new());
        }
        let (parent, name) = self.folders.iter().find_map(|(parent, names)| {
            let found = names.iter().find(|(_, node)| **node == folder && self.folders.contains_key(node))?;
            Some((*parent, found.0))
        })?;
        Some(self.path_of(parent)?.join(name))
    }

    /// A part of a file.
    pub fn part(&self, file: Node, offset: u64, length: u64) -> Vec<u8> {
        let bytes = self.files.get(&file).map(Content::bytes).unwrap_or_default();
        let end = bytes.len().min((offset + length) as usize);
        bytes[offset as usize..end].to_vec()
    }

    /// Gives a file the content that the file of its name has on another disk, and returns that. `None` if there is none.
    pub fn copy_of_its_name(&mut self, file: Node, other: &Self) -> Option<Vec<u8>> {
        let named = |names: &BTreeMap<String, Node>| names.iter().find(|(_, node)| **node == file).map(|(name, _)| name.clone());
        let (folder, name) = self.folders.iter().find_map(|(folder, names)| Some((*folder, named(names)?)))?;
        let there = other.find(&self.path_of(folder)?.join(name))?;
        let content = other.files.get(&there)?.clone();
        let bytes = content.bytes();
        self.files.insert(file, content);
        Some(bytes)
    }

    /// The length of a file, in bytes.
    pub fn length(&self, file: Node) -> u64 {
        self.files.get(&file).map_or(0, |content| content.length)
    }

    /// A hash of all names and contents. What is in SQLite's shared memory is left out: the first
    /// process that opens the database makes it anew.
    pub fn hash(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        for (path, content) in self.contents() {
            path.hash(&mut hasher);
            if let Some(content) = content.filter(|_| !is_shared_memory(&path)) {
                content.length.hash(&mut hasher);
                for (number, page) in &content.pages {
                    (number, page.hash).hash(&mut hasher);
                }
            }
        }
        hasher.finish()
    }

    /// Every path with its content; a folder has none.
    fn contents(&self) -> Vec<(PathBuf, Option<&Content>)> {
        let mut found = Vec::new();
        self.below(ROOT, Path::new(""), &mut found);
        found
    }

    fn below<'d>(&'d self, folder: Node, path: &Path, found: &mut Vec<(PathBuf, Option<&'d Content>)>) {
        static EMPTY: Content = Content {
            length: 0,
            pages: BTreeMap::new(),
        };
        for (name, node) in &self.folders[&folder] {
            let path = path.join(name);
            if self.folders.contains_key(node) {
                found.push((path.clone(), None));
                self.below(*node, &path, found);
            } else {
                found.push((path, Some(self.files.get(node).unwrap_or(&EMPTY))));
            }
        }
    }

    /// Writes everything into a folder.
    pub fn write(&self, to: &Path) {
        for (path, content) in self.contents() {
            let path = to.join(path);
            let Some(content) = content else {
                fs::create_dir(&path).expect("a folder");
                fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).expect("its mode");
                continue;
            };
            let file = fs::File::create(&path).expect("a file");
            file.set_permissions(fs::Permissions::from_mode(0o600)).expect("its mode");
            file.set_len(content.length).expect("its length");
            for (number, page) in &content.pages {
                let at = number * PAGE as u64;
                let part = (content.length - at).min(PAGE as u64) as usize;
                file.write_all_at(&page.bytes[..part], at).expect("its content");
            }
        }
    }

    /// Panics unless both have the same names and contents.
    pub fn assert_same(&self, other: &Self) {
        let (ours, theirs) = (self.contents(), other.contents());
        let paths = |contents: &[(PathBuf, Option<&Content>)]| contents.iter().map(|(path, _)| path.clone()).collect::<Vec<_>>();
        assert_eq!(paths(&ours), paths(&theirs), "the record and the folder differ in names");
        for ((path, ours), (_, theirs)) in ours.iter().zip(&theirs) {
            let same = match (ours, theirs) {
                (Some(ours), Some(theirs)) => is_shared_memory(path) || ours.bytes() == theirs.bytes(),
                _ => ours.is_none() == theirs.is_none(),
            };
            assert!(same, "the record and the folder differ in {}", path.display());
        }
    }

    /// The name of a file, or of any folder.
    pub fn name_of(&self, node: Node) -> Option<String> {
        if self.folders.contains_key(&node) {
            return Some("a folder".to_owned());
        }
        let in_folder = |names: &BTreeMap<String, Node>| names.iter().find(|(_, found)| **found == node).map(|(name, _)| name.clone());
        self.folders.values().find_map(in_folder)
    }
}

/// SQLite's index of its log, which it writes through memory.
fn is_shared_memory(path: &Path) -> bool {
    path.to_str().is_some_and(|path| path.ends_with("-shm"))
}
