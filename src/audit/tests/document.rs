//! `docs/audit-format.md` agrees with the code, and its reader with the one in `tests`.

use super::*;

const PAGE: &str = include_str!("../../../docs/audit-format.md");
const READER: &str = include_str!("../../../tests/audit_reader.py");

/// The content of the page's first fenced block of that language.
fn block<'a>(language: &str) -> &'a str {
    let fence = format!("```{language}\n");
    let start = PAGE.find(&fence).expect("the block exists") + fence.len();
    let end = PAGE[start..].find("```").expect("the block ends");
    &PAGE[start..start + end]
}

#[test]
fn the_example_frame_is_one() {
    let bytes = hex::decode(block("hex").split_whitespace().collect::<String>()).unwrap();
    let (json, first) = frame::parse(&bytes).unwrap();
    assert!(first);
    assert_eq!(json.len() + frame::PREFIX, bytes.len());
    let read: Record = serde_json::from_slice(json).unwrap();
    assert_eq!(serde_json::to_vec(&read).unwrap(), json);
    let shown: Record = serde_json::from_str(block("json")).unwrap();
    assert_eq!(shown, read, "the page shows another record than the frame's");
}

#[test]
fn the_pages_reader_is_the_tested_one() {
    assert!(READER.ends_with(block("python")));
}

#[test]
fn every_member_and_every_word_is_on_the_page() {
    let rows: Vec<&str> = PAGE.lines().filter(|line| line.starts_with("| `")).collect();
    let source = include_str!("../record.rs");
    let declared = source.split("pub struct Record {").nth(1).unwrap().split("\n}").next().unwrap();
    let names = declared
        .lines()
        .filter_map(|line| line.trim().strip_prefix("pub")?.rsplit_once(": ")?.0.rsplit(' ').next());
    let mut count = 0;
    for name in names {
        count += 1;
        assert!(
            rows.iter().any(|row| row.starts_with(&format!("| `{name}` |"))),
            "no row for {name}"
        );
    }
    assert!(count > 40, "{count} members were found");
    let words = Kind::ALL.iter().map(|word| word.as_str());
    let words = words.chain(Authn::ALL.iter().map(|word| word.as_str()));
    let words = words.chain(Decision::ALL.iter().map(|word| word.as_str()));
    let words = words.chain(Ending::ALL.iter().map(|word| word.as_str()));
    let words = words.chain(Cause::ALL.iter().map(|word| word.as_str()));
    let words = words.chain(Verb::ALL.iter().map(|word| word.as_str()));
    let words = words.chain(Object::ALL.iter().map(|word| word.as_str()));
    let words = words.chain(Action::ALL.iter().map(|word| word.as_str()));
    for word in words.chain(Internal::ALL.iter().map(|word| word.as_str())) {
        assert!(PAGE.contains(&format!("`{word}`")), "{word} is not on the page");
    }
}
