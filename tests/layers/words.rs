//! Names that puzzled readers who know the field are gone, and stay gone: from `src`, from
//! `providers`, and from the schemas of the OpenAPI document.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use super::reading::Source;
use super::text::{bare, tokens};
use super::workspace::{files, relative, root};

/// Identifiers that occur nowhere, and the usual name.
const IDENTIFIERS: &[(&str, &str)] = &[
    ("Door", "SwappableRouter, ChallengeGuard"),
    ("ToTheEnd", "RunToCompletion"),
    ("to_the_end", "run_to_completion"),
    ("Pace", "ConnectionDeadlines"),
    ("SwitchKey", "SetKeyState"),
    ("Moment", "Timestamp"),
    ("NoMembers", "Empty"),
    ("Cx", "RequestContext"),
    ("Facts", "AuditFields"),
    ("enclose", "wrapping"),
    ("Kept", "LoadingCache, Replay"),
    ("Watch", "EpochGuard"),
    ("under_gates", "with_gates_held"),
    ("moved_on", "stale"),
    ("Spot", "LogPosition"),
    ("Follows", "Deferred"),
    ("own_way", "custom_egress"),
    ("way_out", "custom_egress"),
    ("halves", "public_keys"),
    ("doing", "operation"),
    ("Told", "UpstreamMessage"),
    ("Nonsense", "MalformedResponse"),
    ("hopeless", "hold_off"),
    ("lent", "operator_owned"),
    ("settle", "sweep"),
    ("agree", "reconcile"),
];

/// Types and schemas only: as variants these have an ordinary meaning.
const TYPES: &[(&str, &str)] = &[("Head", "RequestMeta"), ("Whole", "RawRequest"), ("Cut", "EmergencyRevocation")];

/// Where a word has its ordinary meaning.
const ORDINARY: &[(&str, &str, &str)] = &[
    ("row", "src/store", "a row of a table"),
    ("row", "providers/local", "a row of a table"),
    ("identity", "src/broker", "which key of the provider a version is"),
    ("identity", "providers/core/src/kit/session", "who logs in, whatever the credential"),
];

/// Endings of identifiers that occur nowhere.
const ENDINGS: &[(&str, &str)] = &[("Shown", "the resource's name: Key, DataKey")];

/// Names of modules and files, and in capitals of types and schemas.
const MODULES_AND_TYPES: &[(&str, &str)] = &[
    ("ask", "request"),
    ("row", "route"),
    ("answer", "response"),
    ("reply", "response"),
    ("wire", "types"),
    ("gateway", "app_state"),
    ("words", "string_enum"),
    ("members", "fields"),
    ("way", "wrap_algorithm"),
    ("leaving", "offline_decrypt"),
    ("login", "auth, session, credentials"),
    ("failed", "call_error"),
];

/// Names of modules and files only.
const MODULES: &[(&str, &str)] = &[
    ("door", "swappable_router, challenge_guard"),
    ("pace", "deadlines"),
    ("facts", "audit_fields"),
    ("kept", "loading_cache, replay"),
    ("change", "state_change, write_ahead, transaction"),
    ("first", "bootstrap_admin"),
    ("identity", "auth, session, credentials"),
    ("key_shown", "key"),
    ("source", "opening"),
];

/// Each find, by file.
type Finds = BTreeMap<String, BTreeSet<String>>;

/// The names in one Rust file that have a usual one.
fn in_code(file: &str, text: &str) -> BTreeSet<String> {
    let code = bare(text);
    let mut found = BTreeSet::new();
    let mut find = |name: &str, usual: &str| {
        found.insert(format!("{name} (usual: {usual})"));
    };
    for word in tokens(&code).map(|token| token.text) {
        for (name, usual) in IDENTIFIERS.iter().filter(|(name, _)| *name == word) {
            find(name, usual);
        }
        for (_, usual) in ENDINGS.iter().filter(|(ending, _)| word.ends_with(ending)) {
            find(&word, usual);
        }
    }
    let source = Source::read(&code);
    for item in &source.items {
        if let Some(usual) = for_type(&item.name).filter(|_| !is_ordinary(&item.name, file)) {
            find(&item.name, usual);
        }
    }
    for module in source.inline_modules.iter().filter_map(|module| module.last()) {
        if let Some(usual) = for_module(module) {
            find(module, usual);
        }
    }
    found
}

fn for_type(name: &str) -> Option<&'static str> {
    let capitals = |word: &str| {
        word.split('_')
            .map(|part| part[..1].to_uppercase() + &part[1..])
            .collect::<String>()
    };
    let types = MODULES_AND_TYPES.iter().find(|(word, _)| capitals(word) == name);
    let names = IDENTIFIERS.iter().chain(TYPES).find(|(word, _)| *word == name);
    let endings = ENDINGS.iter().find(|(ending, _)| name.ends_with(ending));
    types.or(names).or(endings).map(|(_, usual)| *usual)
}

/// Whether a name has its ordinary meaning in this file.
fn is_ordinary(name: &str, file: &str) -> bool {
    ORDINARY
        .iter()
        .any(|(word, area, _)| name.eq_ignore_ascii_case(word) && file.starts_with(area))
}

fn for_module(name: &str) -> Option<&'static str> {
    let all = MODULES_AND_TYPES.iter().chain(MODULES).chain(IDENTIFIERS);
    all.clone().find(|(word, _)| *word == name).map(|(_, usual)| *usual)
}

fn finds() -> Finds {
    let mut finds = Finds::new();
    for path in files(&root().join("src")).into_iter().chain(files(&root().join("providers"))) {
        let mut found = match path.extension().is_some_and(|extension| extension == "rs") {
            true => in_code(&relative(&path, root()), &fs::read_to_string(&path).unwrap()),
            false => BTreeSet::new(),
        };
        for part in relative(&path, root()).split('/') {
            let name = part.split('.').next().unwrap_or_default();
            if let Some(usual) = for_module(name).filter(|_| !is_ordinary(name, &relative(&path, root()))) {
                found.insert(format!("the name {part} (usual: {usual})"));
            }
        }
        if !found.is_empty() {
            finds.insert(relative(&path, root()), found);
        }
    }
    let document = "openapi/claviger.json";
    let api: serde_json::Value = serde_json::from_str(&fs::read_to_string(root().join(document)).unwrap()).unwrap();
    let schemas = api["components"]["schemas"].as_object().unwrap();
    assert!(schemas.len() > 20, "the schemas were not found");
    let of_schemas = schemas
        .keys()
        .filter_map(|name| Some(format!("{name} (usual: {})", for_type(name)?)));
    let of_schemas: BTreeSet<String> = of_schemas.collect();
    if !of_schemas.is_empty() {
        finds.insert(document.to_owned(), of_schemas);
    }
    finds
}

#[test]
fn names_are_the_usual_ones() {
    let mut wrong = Vec::new();
    for (file, found) in finds() {
        wrong.extend(found.into_iter().map(|name| format!("{file}: {name}")));
    }
    assert!(wrong.is_empty(), "\n{}\n", wrong.join("\n"));
}

#[test]
fn unusual_names_are_found() {
    let text = r#"
        //! `Facts` in a comment, and "Facts" in a string, are no names.
        mod tests { fn f() { let _ = Cx::new("Facts"); } }
        pub struct KeyShown; pub struct Wire; struct Row<T>(T); mod reply {}
        use sqlx::Row; use tokio::sync::watch; fn source() { x.first(); }
    "#;
    let found = in_code("src/made_up.rs", text);
    let names: Vec<&str> = found.iter().filter_map(|find| find.split(' ').next()).collect();
    assert_eq!(names, ["Cx", "KeyShown", "Row", "Wire", "reply"]);
    assert!(in_code("src/store/made_up.rs", "struct Row; enum Kind { Head }").is_empty());
    assert_eq!(in_code("src/made_up.rs", "struct Head;").len(), 1);
    assert_eq!(for_module("enclose"), Some("wrapping"));
    assert_eq!(for_type("Answer"), Some("response"));
    assert!(for_type("BatchAnswer").is_none() && for_type("Change").is_none() && for_module("changes").is_none());
}
