//! Mistakes of a configuration, each with its place.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fmt;

/// The place of a setting or of a mistake.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// The configuration as a whole: no file was given, or it could not be read.
    Whole,
    /// A position in the file, from 1. Columns count characters.
    File {
        /// Line number.
        line: usize,
        /// Column number.
        column: usize,
    },
    /// An environment variable.
    Variable(String),
}

/// One mistake. It names the setting and what is expected, and never repeats the value, which may
/// be a misplaced secret.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mistake {
    /// Where the mistake is.
    pub place: Place,
    /// The mistake, as a clause.
    pub wrong: String,
    /// The expected value, as a noun phrase.
    pub expected: String,
}

/// All mistakes of a configuration: those of the file in its order, then those of variables.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigErrors {
    /// Name of the file as given; none if there was no file.
    file: Option<String>,
    mistakes: Vec<Mistake>,
}

impl ConfigErrors {
    pub(super) fn new(file: Option<String>, mut mistakes: Vec<Mistake>) -> Self {
        mistakes.sort();
        Self { file, mistakes }
    }

    /// The mistakes, at least one.
    pub fn mistakes(&self) -> &[Mistake] {
        &self.mistakes
    }
}

impl fmt::Display for ConfigErrors {
    /// One line for each mistake: `file:line:column: what is wrong; expected what`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let file = self
            .file
            .as_deref()
            .unwrap_or("configuration (no file is given: --config FILE or CLAVIGER_CONFIG)");
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

/// Collects mistakes, and the names of all settings that exist, while a configuration is read.
#[derive(Default)]
pub(super) struct Journal {
    mistakes: RefCell<Vec<Mistake>>,
    settings: RefCell<BTreeSet<String>>,
    /// Lines that are not TOML. Other mistakes in them would be guesses.
    broken: RefCell<BTreeSet<usize>>,
}

impl Journal {
    /// Reports a mistake, unless it is in a line that is not TOML.
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

    /// Reports that this line of the file is not TOML.
    pub(super) fn report_syntax(&self, line: usize, column: usize, message: &str) {
        self.report(Place::File { line, column }, format!("this is not TOML ({message})"), "TOML 1.0");
        self.broken.borrow_mut().insert(line);
    }

    /// Whether the file has no syntax error. If it has one, a setting that seems to be missing may
    /// just not have been parsed.
    pub(super) fn is_toml(&self) -> bool {
        self.broken.borrow().is_empty()
    }

    /// Number of mistakes reported so far.
    pub(super) fn count(&self) -> usize {
        self.mistakes.borrow().len()
    }

    /// Notes that a setting of this dotted name exists.
    pub(super) fn note_setting(&self, path: String) {
        self.settings.borrow_mut().insert(path);
    }

    /// The dotted names of all settings that exist.
    pub(super) fn settings(&self) -> BTreeSet<String> {
        self.settings.borrow().clone()
    }

    pub(super) fn into_mistakes(self) -> Vec<Mistake> {
        self.mistakes.into_inner()
    }
}
