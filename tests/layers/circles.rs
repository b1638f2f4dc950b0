//! No circle of files: a file must be readable with the files that it uses, and these without
//! it. A parent that only declares modules and re-exports their items is part of no circle; a
//! parent that defines what its children use, and uses them, is.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use super::modules::{Crate, Use};
use super::workspace;

/// A strongly connected part of a crate's files.
struct Circle {
    /// Indices of its files, ascending.
    files: Vec<usize>,
    /// One shortest way round.
    shortest: Vec<Use>,
}

/// Every circle of a crate.
fn circles(krate: &Crate) -> Vec<Circle> {
    let uses = krate.uses();
    let count = krate.files.len();
    let reached: Vec<BTreeSet<usize>> = (0..count).map(|from| reach(from, &uses)).collect();
    let mut circles = Vec::new();
    for first in 0..count {
        let files: Vec<usize> = (0..count)
            .filter(|other| reached[first].contains(other) && reached[*other].contains(&first))
            .collect();
        // Each circle once, at its first file.
        if files.len() > 1 && files[0] == first {
            let shortest = files.iter().map(|start| way_round(*start, &uses)).min_by_key(Vec::len);
            let shortest = shortest.unwrap_or_default();
            circles.push(Circle { files, shortest });
        }
    }
    circles
}

/// The files that a file uses, directly or through others.
fn reach(from: usize, uses: &[Use]) -> BTreeSet<usize> {
    let (mut reached, mut open) = (BTreeSet::new(), vec![from]);
    while let Some(at) = open.pop() {
        for next in uses.iter().filter(|found| found.from == at) {
            if reached.insert(next.to) {
                open.push(next.to);
            }
        }
    }
    reached
}

/// A shortest way from a file back to itself, by breadth-first search.
fn way_round(start: usize, uses: &[Use]) -> Vec<Use> {
    let mut ways: Vec<Vec<&Use>> = vec![Vec::new()];
    let mut seen = BTreeSet::new();
    while !ways.is_empty() {
        let mut longer = Vec::new();
        for way in &ways {
            let at = way.last().map_or(start, |last| last.to);
            for next in uses.iter().filter(|found| found.from == at) {
                let way: Vec<&Use> = way.iter().copied().chain([next]).collect();
                if next.to == start {
                    return way.iter().map(|step| Use { ..**step }).collect();
                }
                if seen.insert(next.to) {
                    longer.push(way);
                }
            }
        }
        ways = longer;
    }
    Vec::new()
}

/// Names the circle's files, and for each step of one shortest way round the line that makes it.
fn report(folder: &str, krate: &Crate, circle: &Circle) -> String {
    let name = |at: usize| &krate.files[at].name;
    let mut out = format!("circle of {} files in {folder}\n", circle.files.len());
    for file in &circle.files {
        let _ = writeln!(out, "    {}", name(*file));
    }
    for step in &circle.shortest {
        let text = krate.files[step.from].line(step.line);
        let _ = writeln!(out, "  {}:{} uses {}: {text}", name(step.from), step.line, name(step.to));
    }
    out
}

#[test]
fn no_files_use_each_other_in_a_circle() {
    let reports = workspace::crates()
        .iter()
        .flat_map(|(folder, krate)| circles(krate).into_iter().map(move |circle| report(folder, krate, &circle)));
    let reports: String = reports.collect();
    assert!(reports.is_empty(), "\n{reports}");
}

/// The files of each circle, and the lines of its shortest way round.
fn found(texts: &[(&str, &str)]) -> Vec<(Vec<String>, Vec<String>)> {
    let krate = Crate::new("made_up", texts.iter().copied());
    let name = |at: usize| krate.files[at].name.clone();
    let shown = |circle: Circle| {
        let steps = circle.shortest.iter().map(|step| format!("{}:{}", name(step.from), step.line));
        (circle.files.iter().map(|at| name(*at)).collect(), steps.collect())
    };
    circles(&krate).into_iter().map(shown).collect()
}

#[test]
fn a_circle_is_found_through_re_exports() {
    let found = found(&[
        ("lib.rs", "mod a; mod b; mod c; mod d; pub use a::A; pub use b::B;"),
        ("a.rs", "//! Text.\nuse super::B;\npub struct A;"),
        ("b.rs", "use crate::c::C;\npub struct B;"),
        ("c.rs", "pub struct C; fn f() {\n\n  let _ = crate::a::A; }"),
        ("d.rs", "use super::A;"),
    ]);
    let files = ["a.rs", "b.rs", "c.rs"].map(str::to_owned).to_vec();
    let steps = ["a.rs:2", "b.rs:1", "c.rs:3"].map(str::to_owned).to_vec();
    assert_eq!(found, [(files, steps)]);
}

#[test]
fn a_parent_that_defines_what_its_children_use_and_uses_them_is_a_circle() {
    let child = ("room/child.rs", "use super::Shared; pub struct Child(Shared); pub fn of_child() {}");
    let of = |parent| found(&[("lib.rs", "mod room;"), ("room/mod.rs", parent), child]);
    assert!(of("mod child; pub use child::Child; pub struct Shared;").is_empty());
    let files = ["room/child.rs", "room/mod.rs"].map(str::to_owned).to_vec();
    for parent in [
        "mod child; pub use child::Child; pub struct Shared; pub struct Parent(Child);",
        "mod child; pub use child::of_child; pub struct Shared; fn parent() { of_child(); }",
        "mod child; use child::Child; pub struct Shared;",
        "mod child; pub struct Shared; fn parent() { child::of_child(); }",
        "mod child; pub use child::*; pub struct Shared; pub struct Parent(Child);",
    ] {
        let found = of(parent);
        assert_eq!(found.len(), 1, "{parent}");
        assert_eq!(found[0].0, files, "{parent}");
    }
}

#[test]
fn tests_modules_and_other_crates_make_no_circle() {
    let found = found(&[
        ("lib.rs", "mod a; mod b; #[cfg(test)] mod fixture;"),
        (
            "a.rs",
            "use super::b; pub struct A; fn f(b: u8) { b.max(1); } #[cfg(test)] mod tests { use super::super::b::B; }",
        ),
        ("b.rs", "use crate::a::A; use a_crate::B as Other; pub struct B;"),
        ("fixture.rs", "use crate::a::A; pub struct F;"),
        ("main.rs", "use made_up::a::A;"),
    ]);
    assert!(found.is_empty(), "{found:?}");
}
