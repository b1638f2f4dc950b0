//! Prepares a source file for reading: removes comments, the contents of strings, and code
//! that is compiled for tests only. Line breaks stay, so that line numbers stay right.

/// A word, `::`, or one other character, with its line (from 1).
#[derive(Clone, Debug)]
pub struct Token {
    pub text: String,
    pub line: usize,
}

/// Returns the code without comments and with empty strings and character literals.
pub fn bare(text: &str) -> String {
    let mut reader = Reader {
        chars: text.chars().collect(),
        at: 0,
        out: String::new(),
    };
    while reader.at < reader.chars.len() {
        reader.step();
    }
    reader.out
}

struct Reader {
    chars: Vec<char>,
    at: usize,
    out: String,
}

impl Reader {
    fn starts(&self, what: &str) -> bool {
        what.chars().enumerate().all(|(i, c)| self.chars.get(self.at + i) == Some(&c))
    }

    /// Drops `count` characters, but not their line breaks.
    fn skip(&mut self, count: usize) {
        let end = (self.at + count).min(self.chars.len());
        self.out.extend(self.chars[self.at..end].iter().filter(|c| **c == '\n'));
        self.at = end;
    }

    fn skip_until(&mut self, end: &str) {
        while self.at < self.chars.len() && !self.starts(end) {
            self.skip(1);
        }
    }

    /// Drops the rest of a literal, up to its closing quote.
    fn skip_quoted(&mut self, quote: char) {
        while self.at < self.chars.len() && self.chars[self.at] != quote {
            self.skip(if self.chars[self.at] == '\\' { 2 } else { 1 });
        }
        self.skip(1);
    }

    fn step(&mut self) {
        let c = self.chars[self.at];
        let in_word = self.at > 0 && is_word(self.chars[self.at - 1]);
        if self.starts("//") {
            self.skip_until("\n");
        } else if self.starts("/*") {
            self.block_comment();
        } else if !in_word && (c == 'r' || self.starts("br")) && self.raw_string() {
        } else if c == '"' {
            self.skip(1);
            self.skip_quoted('"');
            self.out.push_str("\"\"");
        } else if c == '\'' && self.chars.get(self.at + 1) == Some(&'\\') {
            self.skip(3);
            self.skip_quoted('\'');
            self.out.push_str("' '");
        } else if c == '\'' && self.chars.get(self.at + 2) == Some(&'\'') {
            self.skip(3);
            self.out.push_str("' '");
        } else {
            self.out.push(c);
            self.at += 1;
        }
    }

    /// Block comments nest.
    fn block_comment(&mut self) {
        let mut depth = 0;
        loop {
            if self.starts("/*") {
                depth += 1;
                self.skip(2);
            } else if self.starts("*/") {
                depth -= 1;
                self.skip(2);
            } else {
                self.skip(1);
            }
            if depth == 0 || self.at >= self.chars.len() {
                break;
            }
        }
        self.out.push(' ');
    }

    /// Returns false, and reads nothing, where no raw string begins.
    fn raw_string(&mut self) -> bool {
        let prefix = if self.chars[self.at] == 'b' { 2 } else { 1 };
        let hashes = self.chars[self.at + prefix..].iter().take_while(|c| **c == '#').count();
        if self.chars.get(self.at + prefix + hashes) != Some(&'"') {
            return false;
        }
        let end = format!("\"{}", "#".repeat(hashes));
        self.skip(prefix + hashes + 1);
        self.skip_until(&end);
        self.skip(end.len());
        self.out.push_str("\"\"");
        true
    }
}

/// Removes items marked `#[cfg(test)]` from bare code. Returns the rest, and the names of the
/// removed modules that have files of their own.
pub fn without_tests(code: &str) -> (String, Vec<String>) {
    const MARK: &str = "#[cfg(test)]";
    let (mut out, mut files) = (String::new(), Vec::new());
    let mut rest = code;
    while let Some(mark) = rest.find(MARK) {
        out.push_str(&rest[..mark]);
        rest = &rest[mark + MARK.len()..];
        let item = &rest[..item_len(rest)];
        out.extend(item.chars().filter(|c| *c == '\n'));
        if let Some(head) = item.strip_suffix(';') {
            let words: Vec<&str> = head.split_whitespace().collect();
            if let Some(at) = words.iter().position(|word| *word == "mod") {
                files.extend(words.get(at + 1).map(|name| (*name).to_owned()));
            }
        }
        rest = &rest[item.len()..];
    }
    out.push_str(rest);
    (out, files)
}

/// An item ends with its first block, or with a semicolon outside brackets before any block. A
/// field, variant or argument ends with a comma, or before the bracket that closes its list.
fn item_len(rest: &str) -> usize {
    const ITEMS: [&str; 14] = [
        "pub", "fn", "mod", "use", "struct", "enum", "union", "trait", "impl", "type", "const", "static", "unsafe", "async",
    ];
    let is_item = tokens(rest)
        .find(|token| is_word(token.text.chars().next().unwrap_or(' ')))
        .is_some_and(|first| ITEMS.contains(&first.text.as_str()));
    let is_item = is_item && !is_field(rest);
    let (mut braces, mut brackets) = (0, 0);
    for (at, c) in rest.char_indices() {
        match c {
            '(' | '[' => brackets += 1,
            ')' | ']' if brackets == 0 => return at,
            ')' | ']' => brackets -= 1,
            '{' => braces += 1,
            '}' if braces == 0 => return at,
            '}' => {
                braces -= 1;
                // `use a::{b, c};` goes on after its braces.
                let ends = rest[at + 1..].trim_start();
                if braces == 0 && brackets == 0 && !ends.starts_with(';') {
                    return at + 1;
                }
            }
            ';' if braces == 0 && brackets == 0 => return at + 1,
            ',' if braces == 0 && brackets == 0 && !is_item => return at + 1,
            _ => {}
        }
    }
    rest.len()
}

/// Whether `pub name: Type` follows, rather than an item.
fn is_field(rest: &str) -> bool {
    let mut words = tokens(rest).skip_while(|token| token.text != "pub").skip(1);
    let mut next = words.next();
    if next.as_ref().is_some_and(|token| token.text == "(") {
        next = words.by_ref().skip_while(|token| token.text != ")").nth(1);
    }
    rest.trim_start().starts_with("pub") && next.is_some() && words.next().is_some_and(|token| token.text == ":")
}

/// Splits bare code into words, `::`, and single characters.
pub fn tokens(code: &str) -> impl Iterator<Item = Token> + '_ {
    let mut chars = code.chars().peekable();
    let mut line = 1;
    std::iter::from_fn(move || {
        loop {
            let c = chars.next()?;
            if c == '\n' {
                line += 1;
            }
            if c.is_whitespace() {
                continue;
            }
            let mut text = String::from(c);
            if is_word(c) {
                while let Some(more) = chars.next_if(|c| is_word(*c)) {
                    text.push(more);
                }
            } else if c == ':' {
                text.extend(chars.next_if_eq(&':'));
            }
            return Some(Token { text, line });
        }
    })
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

#[test]
fn comments_strings_and_tests_are_removed() {
    let text = r##"
        //! See [`crate::doc::Comment`].
        const A: &str = "crate::string"; const B: &str = r#"crate::"raw"#; const C: &[u8] = br"crate::bytes";
        /* crate::block /* crate::nested */ crate::block */
        const QUOTE: char = '"'; const ESCAPED: char = '\''; fn lifetime<'a>(x: &'a str) {}
        #[cfg(test)]
        mod tests { use crate::inline; fn y() { if true { crate::inline::z(); } } }
        #[cfg(test)] pub(crate) mod fixture;
        #[cfg(test)] use crate::{one, two};
        #[cfg(test)] fn array(x: [u8; 2]) -> (u8, u8) { crate::array() }
        struct S { #[cfg(test)] pub(crate) seen: crate::Seen, kept: u8, #[cfg(test)] last: crate::Last }
        const LAST: u8 = 1;
    "##;
    let code = bare(text);
    assert_eq!(code.lines().count(), text.lines().count());
    for gone in ["Comment", "string", "raw", "bytes", "block", "nested"] {
        assert!(!code.contains(gone), "{gone} in {code}");
    }
    let (code, files) = without_tests(&code);
    assert_eq!(files, ["fixture"]);
    assert_eq!(code.lines().count(), text.lines().count());
    assert!(!code.contains("crate"), "{code}");
    for stays in ["QUOTE", "ESCAPED", "lifetime", "kept: u8", "LAST"] {
        assert!(code.contains(stays), "{stays} not in {code}");
    }
    let last = tokens(&code).find(|token| token.text == "LAST").unwrap();
    assert_eq!(text.lines().nth(last.line - 1).unwrap().trim(), "const LAST: u8 = 1;");
}

#[test]
fn tokens_are_words_path_separators_and_characters() {
    let found: Vec<String> = tokens("a::b(c_1: d)\n=>").map(|token| token.text).collect();
    assert_eq!(found, ["a", "::", "b", "(", "c_1", ":", "d", ")", "=", ">"]);
}
