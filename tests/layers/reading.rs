//! Reads from a file's text which items it defines, which names it imports, and which paths it
//! mentions. A macro's body counts as code of the file that defines the macro.

use super::text::{Token, tokens};

/// The names of a path, as written: `crate`, `super` and `self` included.
pub type Names = Vec<String>;

/// What one file says.
#[derive(Default)]
pub struct Source {
    /// Items at module level.
    pub items: Vec<Item>,
    /// Inline modules, as their path within the file.
    pub inline_modules: Vec<Names>,
    pub imports: Vec<Import>,
    pub mentions: Vec<Mention>,
    /// Macros that `macro_rules!` defines.
    pub macros: Vec<String>,
}

pub struct Item {
    /// The inline module of the file; mostly empty.
    pub module: Names,
    pub name: String,
}

/// One leaf of a `use` tree.
#[derive(Debug)]
pub struct Import {
    pub module: Names,
    pub path: Names,
    /// The name in this module; none for a glob.
    pub name: Option<String>,
    /// Any `pub`, restricted or not: a re-export.
    pub public: bool,
    pub line: usize,
}

/// A path in code, outside `use`.
#[derive(Debug)]
pub struct Mention {
    pub module: Names,
    pub path: Names,
    pub line: usize,
    /// The token after it.
    pub next: String,
}

impl Source {
    /// Reads bare code.
    pub fn read(code: &str) -> Self {
        let mut walk = Walk {
            tokens: tokens(code).collect(),
            at: 0,
            depth: 0,
            inline: Vec::new(),
            source: Self::default(),
        };
        while walk.at < walk.tokens.len() {
            walk.step();
        }
        walk.source
    }
}

struct Walk {
    tokens: Vec<Token>,
    at: usize,
    /// Open braces, brackets and parentheses.
    depth: usize,
    /// Open inline modules, each with the depth inside it.
    inline: Vec<(String, usize)>,
    source: Source,
}

impl Walk {
    fn text(&self, at: usize) -> &str {
        self.tokens.get(at).map_or("", |token| &token.text)
    }

    fn before(&self, back: usize) -> &str {
        self.at.checked_sub(back).map_or("", |at| self.text(at))
    }

    fn line(&self) -> usize {
        self.tokens.get(self.at).map_or(0, |token| token.line)
    }

    fn module(&self) -> Names {
        self.inline.iter().map(|(name, _)| name.clone()).collect()
    }

    fn step(&mut self) {
        let text = self.text(self.at).to_owned();
        match text.as_str() {
            "{" | "(" | "[" => self.depth += 1,
            "}" | ")" | "]" => {
                self.depth = self.depth.saturating_sub(1);
                if self.inline.last().is_some_and(|(_, depth)| *depth > self.depth) {
                    self.inline.pop();
                }
            }
            "use" => return self.import(),
            "mod" if self.text(self.at + 2) == "{" => {
                self.inline.push((self.text(self.at + 1).to_owned(), self.depth + 1));
                self.source.inline_modules.push(self.module());
                self.depth += 1;
                self.at += 3;
                return;
            }
            "macro_rules" => {
                self.source.macros.push(self.text(self.at + 2).to_owned());
                self.at += 3;
                return;
            }
            // Not `'static T`, not `*const T`.
            "fn" | "struct" | "enum" | "union" | "trait" | "type" | "const" | "static"
                if is_name(self.text(self.at + 1)) && !matches!(self.before(1), "'" | "*") =>
            {
                self.item();
                // The name itself is no mention. After `const fn`, `fn` is looked at next.
                self.at += if is_keyword(self.text(self.at + 1)) { 1 } else { 2 };
                return;
            }
            "mod" => {
                self.at += 2;
                return;
            }
            _ if is_name(&text) => return self.mention(),
            _ => {}
        }
        self.at += 1;
    }

    /// Notes the item that begins here, if it is at module level.
    fn item(&mut self) {
        let level = self.inline.last().map_or(0, |(_, depth)| *depth);
        let name = self.text(self.at + 1);
        let parameter = matches!(self.before(1), "<" | ",");
        if self.depth == level && !is_keyword(name) && !parameter {
            let name = name.to_owned();
            let module = self.module();
            self.source.items.push(Item { module, name });
        }
    }

    fn mention(&mut self) {
        let line = self.line();
        let starts = match self.before(1) {
            "::" | "'" => false,
            // A field or method, unless it is the end of a range.
            "." => self.before(2) == ".",
            _ => true,
        };
        let mut path = vec![self.text(self.at).to_owned()];
        self.at += 1;
        while self.text(self.at) == "::" && is_name(self.text(self.at + 1)) {
            path.push(self.text(self.at + 1).to_owned());
            self.at += 2;
        }
        if starts {
            self.source.mentions.push(Mention {
                module: self.module(),
                path,
                line,
                next: self.text(self.at).to_owned(),
            });
        }
    }

    fn import(&mut self) {
        let public = match self.before(1) {
            "pub" => true,
            // `pub(crate)`, `pub(in a::b)`
            ")" => (1..self.at).rev().find(|at| self.text(*at) == "(").map(|at| self.text(at - 1)) == Some("pub"),
            _ => false,
        };
        self.at += 1;
        self.tree(&Vec::new(), public);
    }

    /// Reads a use tree below `prefix`, up to the `,`, `}` or `;` behind it.
    fn tree(&mut self, prefix: &Names, public: bool) {
        let mut path = prefix.clone();
        let mut line = self.line();
        loop {
            let text = self.text(self.at).to_owned();
            match text.as_str() {
                "{" => {
                    self.at += 1;
                    while !matches!(self.text(self.at), "}" | "") {
                        self.tree(&path, public);
                        self.at += usize::from(self.text(self.at) == ",");
                    }
                    self.at += 1;
                    return;
                }
                "*" => {
                    self.at += 1;
                    self.leaf(path, None, public, line);
                    return;
                }
                "::" => self.at += 1,
                "as" => {
                    let name = self.text(self.at + 1).to_owned();
                    self.at += 2;
                    self.leaf(path, Some(name), public, line);
                    return;
                }
                _ if is_name(&text) => {
                    line = self.line();
                    // `a::{self}` is `a`.
                    if text != "self" || path.is_empty() {
                        path.push(text);
                    }
                    self.at += 1;
                }
                _ => {
                    let name = path.last().cloned();
                    self.leaf(path, name, public, line);
                    return;
                }
            }
            // Guards against text that is no use tree, as in a macro's pattern.
            if self.at >= self.tokens.len() {
                return;
            }
        }
    }

    fn leaf(&mut self, path: Names, name: Option<String>, public: bool, line: usize) {
        if path.is_empty() {
            self.at += 1;
            return;
        }
        let module = self.module();
        self.source.imports.push(Import {
            module,
            path,
            name,
            public,
            line,
        });
    }
}

fn is_name(text: &str) -> bool {
    text.starts_with(|c: char| c.is_alphabetic() || c == '_')
}

/// What may stand between `const` or `static` and the item's name.
fn is_keyword(text: &str) -> bool {
    matches!(text, "fn" | "unsafe" | "async" | "extern" | "mut")
}

#[test]
fn items_imports_and_mentions_are_found() {
    let text = r"
        use crate::a;
        pub use b::{self, c::{D, E as F}, g};
        pub(in crate::h) fn i() { crate::j::k(); x.method::l(); super::m::N { o: P::q } }
        pub(super) use super::super::r::S; use t::*;
        const fn u<'v, const V: usize>(w: &'v self::W) -> &'static X { y!(0..z::LAST) }
        impl A { const NOT_AN_ITEM: u8 = 1; fn nor_this() {} }
        mod inline { use super::aa; pub struct Inner; mod deeper { fn bb() { cc::dd() } } }
        macro_rules! ee { () => { $crate::ff::gg!() } }
        static HH: crate::II<jj::KK> = <LL as MM>::new();
        mod file;
    ";
    let source = Source::read(text);
    let items: Vec<String> = source
        .items
        .iter()
        .map(|item| joined(&item.module, std::slice::from_ref(&item.name)))
        .collect();
    assert_eq!(items, ["i", "u", "inline::Inner", "inline::deeper::bb", "HH"]);
    assert_eq!(source.macros, ["ee"]);
    assert_eq!(source.inline_modules, [vec!["inline"], vec!["inline", "deeper"]]);

    let imports: Vec<String> = source.imports.iter().map(shown).collect();
    let expected = [
        "2 a = crate::a",
        "3 pub b = b",
        "3 pub D = b::c::D",
        "3 pub F = b::c::E",
        "3 pub g = b::g",
        "5 pub S = super::super::r::S",
        "5 * = t",
        "8 aa = super::aa",
    ];
    assert_eq!(imports, expected);

    let mentions: Vec<String> = source
        .mentions
        .iter()
        .map(|mention| joined(&mention.module, &mention.path))
        .collect();
    for path in [
        "crate::j::k",
        "super::m::N",
        "P::q",
        "self::W",
        "X",
        "y",
        "z::LAST",
        "inline::deeper::cc::dd",
        "crate::ff::gg",
        "crate::II",
        "jj::KK",
        "LL",
        "MM",
    ] {
        assert!(mentions.contains(&path.to_owned()), "{path} in {mentions:?}");
    }
    for none in [
        "i",
        "u",
        "v",
        "method::l",
        "method",
        "l",
        "new",
        "NOT_AN_ITEM",
        "inline::Inner",
        "bb",
    ] {
        assert!(!mentions.contains(&none.to_owned()), "{none} in {mentions:?}");
    }
    assert!(source.mentions.iter().any(|mention| mention.path == ["y"] && mention.next == "!"));
}

fn joined(module: &[String], path: &[String]) -> String {
    [module, path].concat().join("::")
}

fn shown(import: &Import) -> String {
    let public = if import.public { "pub " } else { "" };
    format!(
        "{} {public}{} = {}",
        import.line,
        import.name.as_deref().unwrap_or("*"),
        import.path.join("::")
    )
}
