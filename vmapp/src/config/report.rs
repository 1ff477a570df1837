//! What is wrong with a configuration, all of it, rendered for a person at a terminal.
//!
//! ```text
//! error: unknown key `memroy` in [machine]
//!  --> vm.toml:4:1
//!   |
//! 4 | memroy = "512M"
//!   | ^^^^^^
//!   = help: did you mean `memory`?
//! ```
//!
//! Every stage of [`config`](super) adds [`Finding`]s. What must never happen here: user text reaching the terminal
//! with its control characters alive, or an excerpt without bound.

use super::source::{Place, Sources};
use std::fmt;
use std::path::Path;

/// Most findings shown of one configuration; the rest are counted.
pub const MAX_SHOWN: usize = 20;
/// Widest excerpt of a line, in characters.
const MAX_EXCERPT: usize = 110;
/// Longest piece of user text repeated inside a message, in characters.
const MAX_QUOTED: usize = 60;

/// One mistake: where, what, and what to write instead.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Finding {
    /// Nowhere for a file that could not be read.
    place: Option<Place>,
    message: String,
    help: String,
}

impl Finding {
    /// A mistake in a text.
    pub fn new(place: Place, message: impl Into<String>, help: impl Into<String>) -> Self {
        Self {
            place: Some(place),
            message: message.into(),
            help: help.into(),
        }
    }

    /// A mistake of no place in particular.
    pub fn anywhere(message: impl Into<String>, help: impl Into<String>) -> Self {
        Self {
            place: None,
            message: message.into(),
            help: help.into(),
        }
    }
}

/// The findings so far.
#[derive(Debug, Default)]
pub struct Findings(Vec<Finding>);

impl Findings {
    /// Adds one.
    pub fn add(&mut self, place: Place, message: impl Into<String>, help: impl Into<String>) {
        self.0.push(Finding::new(place, message, help));
    }

    /// Whether all is well.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The end of the search.
    pub fn into_report(mut self, sources: Sources) -> Report {
        self.0.sort();
        self.0.dedup();
        Report {
            sources,
            findings: self.0,
        }
    }
}

/// Everything wrong with one configuration, in the order of its lines. Never empty.
#[derive(Debug)]
pub struct Report {
    sources: Sources,
    findings: Vec<Finding>,
}

impl Report {
    /// A report of one finding about a file.
    pub fn of_file(file: &Path, text: String, finding: Finding) -> Self {
        Self {
            sources: Sources::new(file, text, &[]),
            findings: vec![finding],
        }
    }

    /// Line and column of every finding that has a place.
    pub fn positions(&self) -> impl Iterator<Item = (usize, usize)> {
        self.findings
            .iter()
            .filter_map(|finding| finding.place.as_ref())
            .map(|place| self.sources.position(place))
    }
}

impl std::error::Error for Report {}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for finding in self.findings.iter().take(MAX_SHOWN) {
            writeln!(f, "error: {}", finding.message)?;
            let indent = match &finding.place {
                Some(place) => excerpt(f, &self.sources, place)?,
                None => String::new(),
            };
            writeln!(f, "{indent} = help: {}\n", finding.help)?;
        }
        let file = &self.sources.file().label;
        match self.findings.len() {
            1 => writeln!(f, "{file}: 1 error"),
            count if count > MAX_SHOWN => writeln!(f, "{file}: {count} errors, the first {MAX_SHOWN} shown"),
            count => writeln!(f, "{file}: {count} errors"),
        }
    }
}

/// Writes where, the line and the carets; returns the indent of the lines below.
fn excerpt(f: &mut fmt::Formatter<'_>, sources: &Sources, place: &Place) -> Result<String, fmt::Error> {
    let source = sources.of(place);
    let (line, column) = sources.position(place);
    let text = source.text.split('\n').nth(line - 1).unwrap_or_default();
    let window = Window::around(text.trim_end_matches('\r'), column, sources.words(place));
    let number = line.to_string();
    let indent = " ".repeat(number.len());
    match place.source {
        0 => writeln!(f, "{indent}--> {}:{line}:{column}", source.label)?,
        // One argument is one line: its number says more than "line 1".
        _ => writeln!(f, "{indent}--> {}, column {column}", source.label)?,
    }
    writeln!(f, "{indent} |\n{number} | {}", window.text)?;
    let carets = "^".repeat(window.carets);
    writeln!(f, "{indent} | {}{carets}", " ".repeat(window.caret_at))?;
    Ok(indent)
}

/// The part of a long line around a mistake.
struct Window {
    text: String,
    caret_at: usize,
    carets: usize,
}

impl Window {
    /// `column` is the mistake's, from 1; `words` are the wrong ones, of which only those on this line are marked.
    fn around(line: &str, column: usize, words: &str) -> Self {
        let length = line.chars().count();
        let at = (column - 1).min(length);
        let marked = words
            .split(['\n', '\r'])
            .next()
            .unwrap_or_default()
            .chars()
            .count();
        let skipped = if length > MAX_EXCERPT {
            at.saturating_sub(MAX_EXCERPT / 2)
        } else {
            0
        };
        let mut text: String = if skipped > 0 { "...".into() } else { String::new() };
        let caret_at = text.len() + at - skipped;
        text.extend(line.chars().skip(skipped).take(MAX_EXCERPT).map(printable));
        if length > skipped + MAX_EXCERPT {
            text.push_str("...");
        }
        Self {
            carets: marked.clamp(1, (skipped + MAX_EXCERPT).saturating_sub(at).max(1)),
            text,
            caret_at,
        }
    }
}

/// One column per character, and nothing a terminal would obey.
fn printable(c: char) -> char {
    match c {
        '\t' => ' ',
        c if c.is_control() => '\u{fffd}',
        c => c,
    }
}

/// User text inside a message: bounded, one line, printable.
pub fn quoted(text: &str) -> String {
    let short: String = text.chars().take(MAX_QUOTED).map(printable).collect();
    if text.chars().nth(MAX_QUOTED).is_some() {
        format!("{short}...")
    } else {
        short
    }
}
