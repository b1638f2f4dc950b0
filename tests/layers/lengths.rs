//! A file over this many lines has more than one subject.

use std::fs;

use super::workspace::{files, relative, root};

const MAX_LINES: usize = 500;
const SOURCES: [&str; 3] = ["rs", "py", "ts"];

#[test]
fn no_file_is_too_long() {
    let sources = files(root()).into_iter().filter(|path| {
        path.extension()
            .is_some_and(|extension| SOURCES.iter().any(|source| extension == *source))
    });
    let lines = |path: &std::path::Path| fs::read_to_string(path).unwrap().lines().count();
    let lengths: Vec<_> = sources.map(|path| (lines(&path), relative(&path, root()))).collect();
    assert!(lengths.len() > 300, "the sources were not found");
    let wrong: Vec<String> = (lengths.iter().filter(|(lines, _)| *lines > MAX_LINES))
        .map(|(lines, file)| format!("{file} has {lines} lines"))
        .collect();
    assert!(wrong.is_empty(), "\n{}\n", wrong.join("\n"));
}
