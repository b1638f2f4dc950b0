//! What is wrong with a configuration: every mistake, each with its place.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fmt;

/// Where a setting, or a mistake, stands.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// The configuration as a whole: no file was given, or it could not be read.
    Whole,
    /// A position in the file; both count from 1, columns in characters.
    File {
        /// The line.
        line: usize,
        /// The column.
        column: usize,
    },
    /// An environment variable.
    Variable(String),
}

/// One mistake. It names settings and says what they must look like; the value that was
/// found is never repeated, since it may be a secret that was put in the wrong place.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mistake {
    /// Where.
    pub place: Place,
    /// What is wrong.
    pub wrong: String,
    /// What is expected instead.
    pub expected: String,
}

/// All mistakes of a configuration, in the order of the file, variables last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigErrors {
    /// The file's name as it was given, if there was one.
    file: Option<String>,
    mistakes: Vec<Mistake>,
}

impl ConfigErrors {
    pub(super) fn new(file: Option<String>, mut mistakes: Vec<Mistake>) -> Self {
        mistakes.sort();
        Self { file, mistakes }
    }

    /// The mistakes; there is at least one.
    pub fn mistakes(&self) -> &[Mistake] {
        &self.mistakes
    }
}

impl fmt::Display for ConfigErrors {
    /// One line for each mistake: `file:line:column: what is wrong; expected what`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let file = self.file.as_deref().unwrap_or("configuration");
        for (at, mistake) in self.mistakes.iter().enumerate() {
            if at > 0 {
                writeln!(f)?;
            }
            match &mistake.place {
                Place::Whole => write!(f, "{file}")?,
                Place::File { line, column } => write!(f, "{file}:{line}:{column}")?,
                Place::Variable(name) => f.write_str(name)?,
            }
            write!(f, ": {}; expected {}", mistake.wrong, mistake.expected)?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}

/// Collects mistakes, and the names of all settings that were asked for, while a
/// configuration is read.
#[derive(Default)]
pub(super) struct Journal {
    mistakes: RefCell<Vec<Mistake>>,
    settings: RefCell<BTreeSet<String>>,
    /// Lines that are no TOML: what else they hold is a guess.
    broken: RefCell<BTreeSet<usize>>,
}

impl Journal {
    /// Reports a mistake, unless it stands in a line that is no TOML.
    pub(super) fn report(&self, place: Place, wrong: impl Into<String>, expected: impl Into<String>) {
        let guess = match &place {
            Place::File { line, .. } => self.broken.borrow().contains(line),
            Place::Whole | Place::Variable(_) => false,
        };
        if !guess {
            self.mistakes.borrow_mut().push(Mistake {
                place,
                wrong: wrong.into(),
                expected: expected.into(),
            });
        }
    }

    /// Reports that this line of the file is no TOML.
    pub(super) fn report_syntax(&self, line: usize, column: usize, message: &str) {
        self.report(Place::File { line, column }, format!("this is not TOML ({message})"), "TOML 1.0");
        self.broken.borrow_mut().insert(line);
    }

    /// Whether the file is TOML as far as it was read. When it is not, what seems to be
    /// missing may only not have been understood.
    pub(super) fn is_toml(&self) -> bool {
        self.broken.borrow().is_empty()
    }

    /// How many mistakes were reported so far.
    pub(super) fn count(&self) -> usize {
        self.mistakes.borrow().len()
    }

    pub(super) fn asked(&self, path: String) {
        self.settings.borrow_mut().insert(path);
    }

    /// The dotted names of all settings that were asked for: all that exist.
    pub(super) fn settings(&self) -> BTreeSet<String> {
        self.settings.borrow().clone()
    }

    pub(super) fn into_mistakes(self) -> Vec<Mistake> {
        self.mistakes.into_inner()
    }
}
