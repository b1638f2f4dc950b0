//! Who may use whom. The table below is the rule; this test reads the sources and holds them
//! against it. It goes by the text (`crate::`, `super::`), without comments, strings and what
//! is compiled for tests alone: a test may stand on whatever it needs.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test stops where an expectation fails")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// What a module of `src` may use of the others, each with the reason. A path allows all that
/// stands below it. Every module may use itself, `claviger_provider` (the vocabulary) and
/// `claviger_guarded` (locked memory). A module that has no row fails the test.
const MODULES: &[(&str, &[(&str, &str)])] = &[
    ("duration", &[]),
    ("names", &[]),
    ("envelope", &[]),
    ("audit", &[]),
    ("store", &[]),
    (
        "config",
        &[
            ("duration", "durations are written as in the API"),
            ("names", "names are as in the API"),
        ],
    ),
    (
        "keys",
        &[
            ("store", "the rows are loaded from it"),
            ("envelope", "a tenant's seal keys are values of it"),
            ("audit", "types: the hash of a context as the record has it"),
        ],
    ),
    (
        "access",
        &[
            ("store", "tokens and tenants are read from it"),
            ("audit", "types: the closed list of actions"),
        ],
    ),
    (
        "cache",
        &[
            ("keys", "types: the epochs that an entry is bound to"),
            ("envelope", "types: the blob is part of what an entry is found under"),
            ("store::model", "types: a key's own cache settings"),
        ],
    ),
    (
        "broker",
        &[
            ("access", "a use case consumes a permit"),
            ("audit", "no audit, no answer"),
            ("cache", "unwrap looks there first"),
            ("envelope", "makes and opens wrapped keys"),
            ("keys", "keys, connections and their gates"),
            ("store", "commits what changes"),
        ],
    ),
    (
        "listener",
        &[
            ("config::server", "types: the listener's limits and files"),
            ("telemetry::metrics", "counts connections"),
        ],
    ),
    (
        "protocols",
        &[
            ("broker", "a handler calls one use case"),
            ("access", "authenticates and asks for permits by name"),
            ("audit", "types: only what was recorded can be answered"),
            ("envelope", "a wrapped key is parsed before anything is done"),
            ("keys", "types: what a permit is asked for"),
            ("store::model", "types: the rows that answers show"),
            ("duration", "durations in bodies and headers"),
            ("names", "names in bodies and paths"),
            ("listener", "types: the peer and the certificates that are presented"),
            ("telemetry::metrics", "counts requests"),
            ("telemetry::request", "labels the log's lines with the request"),
        ],
    ),
    (
        "boot",
        &[
            ("config", "what is to be built"),
            ("store", "opens it"),
            ("envelope", "the wrapped root key is one"),
            ("audit", "opens the log and reconciles it"),
            ("keys", "registers the provider families"),
            ("cache", "makes it and sweeps it on a timer"),
            ("access", "makes the first credential"),
            ("broker", "puts the parts together and recovers"),
            ("listener", "binds the sockets"),
            ("protocols", "serves"),
            ("telemetry::metrics", "types: the metrics that it hands to the service endpoints"),
        ],
    ),
    ("telemetry", &[("config::telemetry", "types: how logs and metrics are wanted")]),
    ("client", &[("duration", "durations in headers")]),
    (
        "cli",
        &[
            ("boot", "serves, and makes the first administrator"),
            ("client", "every other command is a client"),
            ("protocols::rest::document", "prints the API's document"),
            ("protocols::rest::capability_rows", "shows capabilities in the API's words"),
            ("config", "reads and checks it"),
            ("telemetry", "begins the log and the metrics"),
            ("store::sealing::RootKey", "dev takes the root key from a variable"),
            ("duration", "durations on the command line"),
        ],
    ),
    ("main", &[("cli", "reads the command line, and does what it says")]),
];

/// What only `boot` may name, whatever the table allows: the choice is made in one place.
const BOOT_ALONE: &[(&str, &str)] = &[("store::sqlite", "which store there is")];

/// Crates of the workspace that every module may use; any other is for `boot` to choose.
const CRATES: &[&str] = &["claviger", "claviger_provider", "claviger_guarded"];

/// What the workspace's other packages may depend on, of the workspace's own packages, and
/// what for tests in addition. Providers that have no row of their own go by `*`.
const PACKAGES: &[(&str, &[&str], &[&str])] = &[
    ("claviger-guarded", &[], &[]),
    ("claviger-provider", &["claviger-guarded"], &[]),
    ("claviger-testkit", &["claviger-provider", "claviger-guarded"], &[]),
    ("claviger-fake", &[], &[]),
    ("claviger-fake-azure", &["claviger-fake"], &[]),
    ("claviger-fake-google", &["claviger-fake"], &[]),
    (
        "*",
        &["claviger-provider", "claviger-guarded"],
        &["claviger-testkit", "claviger-fake", "claviger-fake-azure", "claviger-fake-google"],
    ),
];

/// A path that the code names, from the crate's root.
type Used = Vec<String>;

/// The code without comments, and with nothing in its strings and characters.
fn bare(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let starts = |at: usize, what: &str| what.chars().enumerate().all(|(i, c)| chars.get(at + i) == Some(&c));
    let mut out = String::new();
    let mut at = 0;
    while at < chars.len() {
        let word_before = at > 0 && (chars[at - 1].is_alphanumeric() || chars[at - 1] == '_');
        if starts(at, "//") {
            while at < chars.len() && chars[at] != '\n' {
                at += 1;
            }
        } else if starts(at, "/*") {
            let mut depth = 0;
            loop {
                if starts(at, "/*") {
                    depth += 1;
                    at += 2;
                } else if starts(at, "*/") {
                    depth -= 1;
                    at += 2;
                } else {
                    at += 1;
                }
                if depth == 0 || at >= chars.len() {
                    break;
                }
            }
            out.push(' ');
        } else if !word_before && (chars[at] == 'r' || starts(at, "br")) {
            let prefix = if chars[at] == 'b' { 2 } else { 1 };
            let hashes = chars[at + prefix..].iter().take_while(|c| **c == '#').count();
            if chars.get(at + prefix + hashes) == Some(&'"') {
                let end = format!("\"{}", "#".repeat(hashes));
                at += prefix + hashes + 1;
                while at < chars.len() && !starts(at, &end) {
                    at += 1;
                }
                at += end.len();
                out.push_str("\"\"");
            } else {
                out.push(chars[at]);
                at += 1;
            }
        } else if chars[at] == '"' {
            at += 1;
            while at < chars.len() && chars[at] != '"' {
                at += if chars[at] == '\\' { 2 } else { 1 };
            }
            at += 1;
            out.push_str("\"\"");
        } else if chars[at] == '\'' && chars.get(at + 1) == Some(&'\\') {
            at += 3;
            while at < chars.len() && chars[at] != '\'' {
                at += 1;
            }
            at += 1;
            out.push_str("' '");
        } else if chars[at] == '\'' && chars.get(at + 2) == Some(&'\'') {
            at += 3;
            out.push_str("' '");
        } else {
            out.push(chars[at]);
            at += 1;
        }
    }
    out
}

/// Takes what is compiled for tests alone out of bare code. Gives the rest, and the names of
/// modules that stand in files of their own and are for tests alone.
fn without_tests(code: &str) -> (String, Vec<String>) {
    const MARK: &str = "#[cfg(test)]";
    let (mut out, mut files) = (String::new(), Vec::new());
    let mut rest = code;
    while let Some(mark) = rest.find(MARK) {
        out.push_str(&rest[..mark]);
        rest = &rest[mark + MARK.len()..];
        // The item ends with its first block, or with a semicolon before any.
        let end = rest.find(['{', ';']).unwrap_or(rest.len());
        let head: Vec<&str> = rest[..end].split_whitespace().collect();
        if rest[end..].starts_with(';') {
            if let Some(name) = head.iter().position(|word| *word == "mod").and_then(|at| head.get(at + 1)) {
                files.push((*name).to_owned());
            }
            rest = &rest[end + 1..];
            continue;
        }
        let mut depth = 0;
        let mut closed = rest.len();
        for (at, c) in rest[end..].char_indices() {
            match c {
                '{' => depth += 1,
                '}' => depth -= 1,
                _ => {}
            }
            if depth == 0 {
                closed = end + at + 1;
                break;
            }
        }
        rest = &rest[closed.min(rest.len())..];
    }
    out.push_str(rest);
    (out, files)
}

/// Words and the punctuation of paths; everything else as itself.
fn tokens(code: &str) -> Vec<String> {
    let mut out: Vec<String> = Vec::new();
    let mut in_word = false;
    for c in code.chars() {
        let of_word = c.is_alphanumeric() || c == '_';
        match out.last_mut() {
            Some(last) if of_word && in_word => last.push(c),
            Some(last) if c == ':' && last == ":" => last.push(c),
            _ if c.is_whitespace() => {}
            _ => out.push(c.to_string()),
        }
        in_word = of_word;
    }
    out
}

/// Reads the rest of a path that `prefix` begins, with all branches of a use tree.
fn tree(tokens: &[String], mut at: usize, mut prefix: Used, found: &mut Vec<Used>) -> usize {
    loop {
        match tokens.get(at).map(String::as_str) {
            Some("{") => {
                at += 1;
                while let Some(token) = tokens.get(at) {
                    match token.as_str() {
                        "}" => return at + 1,
                        "," => at += 1,
                        _ => at = tree(tokens, at, prefix.clone(), found).max(at + 1),
                    }
                }
                return at;
            }
            Some(word) if word.starts_with(|c: char| c.is_alphabetic() || c == '_') => {
                prefix.push(word.to_owned());
                at += 1;
                if tokens.get(at).map(String::as_str) == Some("as") {
                    at += 2;
                }
                if tokens.get(at).map(String::as_str) != Some("::") {
                    found.push(prefix);
                    return at;
                }
                at += 1;
            }
            Some(_) | None => {
                found.push(prefix);
                return at;
            }
        }
    }
}

/// The paths from the crate's root that bare code names, in a file whose module stands so
/// many levels below the root.
fn used(code: &str, depth: usize) -> Vec<Used> {
    let tokens = tokens(code);
    let is = |at: usize, what: &str| tokens.get(at).map(String::as_str) == Some(what);
    let mut found = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        let begins = at == 0 || !is(at - 1, "::");
        if begins && (is(at, "crate") || is(at, "claviger")) && is(at + 1, "::") {
            at = tree(&tokens, at + 2, Vec::new(), &mut found).max(at + 1);
        } else if begins && is(at, "super") {
            let mut levels = 0;
            while is(at, "super") && is(at + 1, "::") {
                levels += 1;
                at += 2;
            }
            if levels >= depth && levels > 0 {
                at = tree(&tokens, at, Vec::new(), &mut found).max(at);
            }
            at += usize::from(levels == 0);
        } else {
            at += 1;
        }
    }
    found
}

/// Every Rust file below a folder.
fn rust_files(folder: &Path, out: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            rust_files(&path, out);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            out.push(path);
        }
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The module that a file is, from the crate's root.
fn module_of(file: &Path) -> Vec<String> {
    let path = file.strip_prefix(root().join("src")).unwrap().with_extension("");
    let mut module: Vec<String> = path.iter().map(|part| part.to_str().unwrap().to_owned()).collect();
    if module.last().is_some_and(|last| last == "mod") {
        module.pop();
    }
    module
}

/// The code of each module that is not for tests alone.
fn sources() -> BTreeMap<Vec<String>, String> {
    let mut files = Vec::new();
    rust_files(&root().join("src"), &mut files);
    let mut sources = BTreeMap::new();
    let mut for_tests = BTreeSet::new();
    for file in files {
        let module = module_of(&file);
        let (code, test_files) = without_tests(&bare(&fs::read_to_string(&file).unwrap()));
        let parent = if module == ["lib"] || module == ["main"] {
            &[]
        } else {
            module.as_slice()
        };
        for name in test_files {
            for_tests.insert([parent, &[name]].concat());
        }
        assert!(sources.insert(module, code).is_none(), "{} is there twice", file.display());
    }
    sources.retain(|module, _| !(1..=module.len()).any(|len| for_tests.contains(&module[..len])));
    sources
}

/// Whether a path is this one or stands below it.
fn within(path: &[String], whole: &str) -> bool {
    let whole: Vec<&str> = whole.split("::").collect();
    path.len() >= whole.len() && whole.iter().zip(path).all(|(a, b)| a == b)
}

#[test]
fn the_table_holds() {
    let sources = sources();
    let rooms: BTreeSet<&String> = sources
        .keys()
        .filter(|module| *module != &["lib"])
        .map(|module| &module[0])
        .collect();
    assert!(rooms.len() > 5, "the sources were not found: {rooms:?}");
    let mut wrong = Vec::new();
    for room in &rooms {
        if !MODULES.iter().any(|(module, _)| module == room) {
            wrong.push(format!("src/{room} has no row in the table"));
        }
    }
    for (module, code) in &sources {
        let here = module.join("::");
        let depth = if *module == ["lib"] || *module == ["main"] {
            0
        } else {
            module.len()
        };
        let allowed = MODULES
            .iter()
            .find(|(row, _)| *row == module[0])
            .map_or(&[][..], |(_, allowed)| *allowed);
        for path in used(code, depth) {
            // What is no module is an item of the root or of this very file.
            if path.first().is_none_or(|first| !rooms.contains(first) || *first == module[0]) {
                continue;
            }
            let named = path.join("::");
            if !allowed.iter().any(|(whole, _)| within(&path, whole)) {
                wrong.push(format!("{here} may not use {named}"));
            }
            if module[0] != "boot" && BOOT_ALONE.iter().any(|(whole, _)| within(&path, whole)) {
                wrong.push(format!("{here} may not use {named}: only boot may"));
            }
        }
        for word in tokens(code) {
            if word.starts_with("claviger_") && module[0] != "boot" && !CRATES.contains(&word.as_str()) && sources_crate(&word) {
                wrong.push(format!("{here} may not use {word}: only boot chooses providers"));
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}\n", wrong.join("\n"));
}

/// Whether a word is a crate of this workspace.
fn sources_crate(word: &str) -> bool {
    manifests().iter().any(|(name, _)| name.replace('-', "_") == word)
}

/// The manifests of the workspace's other packages, by name.
fn manifests() -> Vec<(String, toml::Table)> {
    let mut all = Vec::new();
    for folder in ["providers", "providers/testkit", "crates"] {
        for entry in fs::read_dir(root().join(folder)).unwrap() {
            let file = entry.unwrap().path().join("Cargo.toml");
            if let Ok(text) = fs::read_to_string(&file) {
                let manifest: toml::Table = text.parse().unwrap();
                all.push((manifest["package"]["name"].as_str().unwrap().to_owned(), manifest));
            }
        }
    }
    all
}

/// The packages of this workspace that a table of dependencies names.
fn ours(tables: &toml::Table, kind: &str, names: &BTreeSet<String>) -> Vec<String> {
    let dependencies = tables.get(kind).and_then(toml::Value::as_table).into_iter().flatten();
    dependencies
        .map(|(name, value)| value.get("package").and_then(toml::Value::as_str).unwrap_or(name).to_owned())
        .filter(|name| names.contains(name))
        .collect()
}

#[test]
fn packages_depend_on_no_more_than_they_may() {
    let manifests = manifests();
    let mut names: BTreeSet<String> = manifests.iter().map(|(name, _)| name.clone()).collect();
    names.insert("claviger".to_owned());
    assert!(names.contains("claviger-provider") && names.contains("claviger-guarded"));
    let mut wrong = Vec::new();
    for (name, manifest) in &manifests {
        let (_, always, in_tests) = PACKAGES
            .iter()
            .find(|(row, _, _)| row == name)
            .or_else(|| PACKAGES.iter().find(|(row, _, _)| *row == "*"))
            .unwrap();
        let targets = manifest.get("target").and_then(toml::Value::as_table).into_iter().flatten();
        let tables = std::iter::once(manifest).chain(targets.filter_map(|(_, target)| target.as_table()));
        for tables in tables {
            for (kind, also) in [
                ("dependencies", &[][..]),
                ("build-dependencies", &[]),
                ("dev-dependencies", *in_tests),
            ] {
                for used in ours(tables, kind, &names) {
                    if !always.contains(&used.as_str()) && !also.contains(&used.as_str()) {
                        wrong.push(format!("{name} may not depend on {used} ({kind})"));
                    }
                }
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}\n", wrong.join("\n"));
}

/// The reading itself: a test that finds nothing would hold for ever.
#[test]
fn what_is_used_is_found() {
    let text = r##"
        //! See [`crate::doc::Comment`].
        use crate::a;
        use crate::b::{self, c::{D, E as F}, g};
        pub(in crate::h) fn i() { crate::j::k(); let _ = "crate::string"; let _ = r#"crate::"raw"#; }
        /* crate::block /* crate::nested */ crate::block */
        use super::super::l::M; use super::n;
        const QUOTE: char = '"'; const ESCAPED: char = '\''; use crate::o::*;
        fn p<'a>(q: &'a crate::r::S<crate::t::U>) {}
        macro_rules! v { () => { $crate::w::x!() } }
        #[cfg(test)]
        mod tests { use crate::inline; fn y() { if true { crate::inline::z(); } } }
        #[cfg(test)] pub(crate) mod fixture;
        use crate::last;
    "##;
    let (code, test_files) = without_tests(&bare(text));
    assert_eq!(test_files, ["fixture"]);
    let found: Vec<String> = used(&code, 2).iter().map(|path| path.join("::")).collect();
    let expected = [
        "a", "b::self", "b::c::D", "b::c::E", "b::g", "h", "j::k", "l::M", "o", "r::S", "t::U", "w::x", "last",
    ];
    assert_eq!(found, expected);
    assert_eq!(used("use super::store::X;", 1), [["store", "X"]]);
    assert!(used("use super::store::X;", 2).is_empty());
    assert_eq!(used("use claviger::boot::serve;", 0), [["boot", "serve"]]);
    assert!(within(&["store".to_owned(), "model".to_owned()], "store::model"));
    assert!(!within(&["store".to_owned()], "store::model"));
}
