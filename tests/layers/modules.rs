//! The modules of one crate, and to which file a path in one of them leads.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::reading::{Import, Mention, Names, Source};
use super::text::{bare, without_tests};

/// How many re-exports one path may pass. A `use` of a crate by its own name refers to itself,
/// so there must be an end.
const MAX_REEXPORTS: usize = 16;

/// One file of a crate that is not for tests only.
pub struct File {
    /// Below the crate's `src`, with `/`.
    pub name: String,
    /// Its module, from the crate's root.
    pub module: Names,
    pub source: Source,
    /// The bare code, for those who look for words.
    pub code: String,
}

impl File {
    /// A line of its bare code, from 1.
    pub fn line(&self, number: usize) -> &str {
        self.code.lines().nth(number.saturating_sub(1)).unwrap_or_default().trim()
    }
}

/// A crate's files and modules.
pub struct Crate {
    /// As other crates name it: `claviger_provider`.
    name: String,
    pub files: Vec<File>,
    modules: BTreeMap<Names, Module>,
}

#[derive(Default)]
struct Module {
    file: usize,
    items: BTreeSet<String>,
    /// Indices into the file's imports.
    imports: Vec<usize>,
}

/// Where a path leads.
#[derive(Debug, PartialEq)]
enum Target {
    /// An item that this file defines.
    Item(usize),
    Module(Names),
    /// Another crate, the standard library, a local variable.
    Elsewhere,
}

/// That one file uses an item of another.
pub struct Use {
    pub from: usize,
    pub to: usize,
    /// In `from`.
    pub line: usize,
}

impl Crate {
    /// From the files' names below `src` and their texts.
    pub fn new<'t>(name: &str, texts: impl IntoIterator<Item = (&'t str, &'t str)>) -> Self {
        let mut texts: Vec<_> = texts.into_iter().collect();
        texts.sort_unstable();
        let has_lib = texts.iter().any(|(file, _)| *file == "lib.rs");
        let (mut files, mut for_tests) = (Vec::new(), BTreeSet::new());
        for (file, text) in texts {
            let module = module_of(file);
            let (code, test_files) = without_tests(&bare(text));
            for name in test_files {
                for_tests.insert([module.as_slice(), &[name]].concat());
            }
            files.push(File {
                name: file.to_owned(),
                module,
                source: Source::read(&code),
                code,
            });
        }
        files.retain(|file| !(1..=file.module.len()).any(|len| for_tests.contains(&file.module[..len])));
        let mut modules = BTreeMap::new();
        for (at, file) in files.iter().enumerate() {
            // Beside lib.rs, main.rs is the root of a crate of its own that nothing uses.
            if file.name == "main.rs" && has_lib {
                continue;
            }
            let inline = file.source.inline_modules.iter().map(Vec::as_slice);
            for inline in inline.chain([&[][..]]) {
                let module = Module {
                    file: at,
                    items: (file
                        .source
                        .items
                        .iter()
                        .filter(|item| item.module == inline)
                        .map(|item| item.name.clone()))
                    .collect(),
                    imports: (0..file.source.imports.len())
                        .filter(|import| file.source.imports[*import].module == inline)
                        .collect(),
                };
                modules.insert([file.module.as_slice(), inline].concat(), module);
            }
        }
        Self {
            name: name.to_owned(),
            files,
            modules,
        }
    }

    /// Every use of an item of another file, once for each pair of files.
    ///
    /// Not seen: methods called on a value, implementations, and what a macro's expansion
    /// names beyond the macro's own text.
    pub fn uses(&self) -> Vec<Use> {
        let mut uses: BTreeMap<(usize, usize), usize> = BTreeMap::new();
        for (from, file) in self.files.iter().enumerate() {
            let imports = file.source.imports.iter().filter(|import| !import.public && import.name.is_some());
            let imported = imports.map(|import| (self.resolve_import(file, import), import.line));
            let mentioned = file
                .source
                .mentions
                .iter()
                .map(|mention| (self.resolve_mention(file, mention), mention.line));
            for (target, line) in imported.chain(mentioned) {
                if let Target::Item(to) = target
                    && to != from
                {
                    let first = uses.entry((from, to)).or_insert(line);
                    *first = line.min(*first);
                }
            }
        }
        uses.into_iter().map(|((from, to), line)| Use { from, to, line }).collect()
    }

    /// The paths from the crate's root that a file names, whether it imports or mentions them.
    pub fn absolute_paths(&self, file: &File) -> Vec<Names> {
        let imports = file.source.imports.iter().map(|import| (&import.module, &import.path));
        let mentions = file.source.mentions.iter().map(|mention| (&mention.module, &mention.path));
        let paths = imports.chain(mentions);
        paths
            .filter_map(|(inline, path)| {
                let (mut start, rest) = self.start(&[file.module.as_slice(), inline].concat(), path)?;
                start.extend_from_slice(rest);
                Some(start)
            })
            .collect()
    }

    fn resolve_import(&self, file: &File, import: &Import) -> Target {
        self.resolve(&[file.module.as_slice(), &import.module].concat(), &import.path, MAX_REEXPORTS)
    }

    fn resolve_mention(&self, file: &File, mention: &Mention) -> Target {
        let module = [file.module.as_slice(), &mention.module].concat();
        let name = &mention.path[0];
        if mention.path.len() == 1 {
            // A lower-case name that is not called is most likely a local variable.
            if !matches!(mention.next.as_str(), "(" | "!") && !name.starts_with(|c: char| c.is_uppercase()) {
                return Target::Elsewhere;
            }
            let target = self.resolve(&module, &mention.path, MAX_REEXPORTS);
            // Macros without a path are in scope by the order of the text.
            if target == Target::Elsewhere && mention.next == "!" && !file.source.macros.contains(name) {
                let mut files = (0..self.files.len()).filter(|at| self.files[*at].source.macros.contains(name));
                return files.next().map_or(Target::Elsewhere, Target::Item);
            }
            return target;
        }
        self.resolve(&module, &mention.path, MAX_REEXPORTS)
    }

    /// The module where a path begins that starts with `crate`, `super`, `self` or the crate's
    /// name, and the rest of the path.
    fn start<'p>(&self, module: &[String], path: &'p [String]) -> Option<(Names, &'p [String])> {
        let mut start = match path.first()?.as_str() {
            "crate" => Vec::new(),
            name if name == self.name => Vec::new(),
            "self" | "super" if path.len() > 1 => module.to_vec(),
            _ => return None,
        };
        let mut rest = path;
        while let Some((name, more)) = rest.split_first() {
            match name.as_str() {
                "super" => drop(start.pop()),
                "crate" | "self" => {}
                name if name == self.name && rest.len() == path.len() => {}
                _ => break,
            }
            rest = more;
        }
        Some((start, rest))
    }

    fn resolve(&self, module: &[String], path: &[String], fuel: usize) -> Target {
        let (mut at, rest, certain) = match self.start(module, path) {
            Some((start, rest)) => (start, rest, true),
            None => (module.to_vec(), path, false),
        };
        for (step, name) in rest.iter().enumerate() {
            match self.lookup(&at, name, step + 1 == rest.len(), fuel) {
                Some(Target::Module(next)) => at = next,
                Some(found) => return found,
                // Made by a macro, if it is ours.
                None if certain || step > 0 => return self.modules.get(&at).map_or(Target::Elsewhere, |module| Target::Item(module.file)),
                None => return Target::Elsewhere,
            }
        }
        Target::Module(at)
    }

    /// What a name is within a module. The last name of a path may be an item and a module;
    /// it is taken as the item.
    fn lookup(&self, at: &[String], name: &String, last: bool, fuel: usize) -> Option<Target> {
        let Some(fuel) = fuel.checked_sub(1) else {
            return Some(Target::Elsewhere);
        };
        let module = self.modules.get(at)?;
        let child = [at, std::slice::from_ref(name)].concat();
        let child = self.modules.contains_key(&child).then_some(Target::Module(child));
        if !last && child.is_some() {
            return child;
        }
        if module.items.contains(name) {
            return Some(Target::Item(module.file));
        }
        let file = &self.files[module.file];
        let imports = || module.imports.iter().map(|import| &file.source.imports[*import]);
        if let Some(import) = imports().find(|import| import.name.as_ref() == Some(name)) {
            return Some(self.resolve(at, &import.path, fuel));
        }
        for glob in imports().filter(|import| import.name.is_none()) {
            if let Target::Module(from) = self.resolve(at, &glob.path, fuel)
                && from != at
                && let Some(found) = self.lookup(&from, name, last, fuel)
            {
                return Some(found);
            }
        }
        child
    }
}

/// The module that a file below `src` is.
fn module_of(file: &str) -> Names {
    let path = Path::new(file).with_extension("");
    let mut module: Names = path.iter().map(|part| part.to_string_lossy().into_owned()).collect();
    if module.last().is_some_and(|last| last == "mod") || module == ["lib"] || module == ["main"] {
        module.pop();
    }
    module
}

#[test]
fn a_path_leads_to_the_file_that_defines_the_item() {
    let krate = Crate::new(
        "made_up",
        [
            ("lib.rs", "pub mod room; mod other; pub use room::Thing;"),
            (
                "room/mod.rs",
                "mod part; mod twice; mod all; pub use part::{Thing, made as named}; pub use twice::twice; pub use all::*;",
            ),
            ("room/part.rs", "pub struct Thing; pub fn made() {}"),
            ("room/twice.rs", "pub fn twice() {}"),
            ("room/all.rs", "pub struct ByGlob; words! { pub struct ByMacro }"),
            (
                "other.rs",
                "use super::room; macro_rules! mine { () => {} } use tokio::tokio; use std::fmt::Display as Shown;",
            ),
            ("main.rs", "use made_up::other;"),
        ],
    );
    let file = |name: &str| Target::Item(krate.files.iter().position(|file| file.name == name).unwrap());
    let resolve = |path: &str| {
        let path: Names = path.split("::").map(str::to_owned).collect();
        krate.resolve(&["other".to_owned()], &path, MAX_REEXPORTS)
    };
    for path in [
        "crate::Thing",
        "made_up::Thing",
        "super::room::Thing",
        "room::named",
        "self::room::part::made",
        "room::Thing::new",
    ] {
        assert_eq!(resolve(path), file("room/part.rs"), "{path}");
    }
    assert_eq!(resolve("room::twice"), file("room/twice.rs"));
    assert_eq!(resolve("room::twice::twice"), file("room/twice.rs"));
    assert_eq!(resolve("room::ByGlob"), file("room/all.rs"));
    assert_eq!(resolve("room::all::ByMacro"), file("room/all.rs"));
    assert_eq!(resolve("crate::room"), Target::Module(vec!["room".to_owned()]));
    for path in ["std::fmt::Display", "Shown", "tokio::spawn", "Local"] {
        assert_eq!(resolve(path), Target::Elsewhere, "{path}");
    }
    let of_file = |name: &str| -> Vec<String> {
        let file = krate.files.iter().find(|file| file.name == name).unwrap();
        krate.absolute_paths(file).iter().map(|path| path.join("::")).collect()
    };
    assert_eq!(of_file("other.rs"), ["room"]);
    assert_eq!(of_file("main.rs"), ["other"]);
}
