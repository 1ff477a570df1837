//! The texts a configuration is made of: the file, then each `--set` argument in order.
//!
//! Bounded: a file is at most [`MAX_FILE_BYTES`] long, so everything later is linear in that. What must never happen
//! here: reading on without end from a device that was named by mistake.

use super::report::{Finding, Report};
use std::fs::File;
use std::io::Read;
use std::ops::Range;
use std::path::Path;

/// Longest configuration file, in bytes.
pub const MAX_FILE_BYTES: u64 = 1 << 20;

/// One text.
#[derive(Clone, Debug)]
pub struct Source {
    /// How errors name it: the file as the user gave it, or `--set #1`.
    pub label: String,
    /// The text.
    pub text: String,
}

/// All texts of one configuration.
#[derive(Clone, Debug)]
pub struct Sources(Vec<Source>);

/// A stretch of one text. Ordered as the reader meets it: the file first, then each `--set`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Index into [`Sources`]: 0 is the file, n the n-th `--set`.
    pub source: usize,
    /// First byte.
    pub start: usize,
    /// One past the last byte.
    pub end: usize,
}

impl Place {
    /// A stretch of text number `source`.
    pub fn new(source: usize, span: Range<usize>) -> Self {
        Self {
            source,
            start: span.start,
            end: span.end,
        }
    }
}

impl Sources {
    /// The file's text and the `--set` arguments.
    pub fn new(file: &Path, text: String, sets: &[String]) -> Self {
        let mut all = vec![Source {
            label: shown_path(file),
            text,
        }];
        all.extend(sets.iter().enumerate().map(|(index, set)| Source {
            label: format!("--set #{}", index + 1),
            text: set.clone(),
        }));
        Self(all)
    }

    /// The file.
    pub fn file(&self) -> &Source {
        &self.0[0]
    }

    /// The `--set` arguments with their numbers as in [`Place::source`].
    pub fn sets(&self) -> impl Iterator<Item = (usize, &Source)> {
        self.0.iter().enumerate().skip(1)
    }

    /// The text a place is in.
    pub fn of(&self, place: &Place) -> &Source {
        &self.0[place.source.min(self.0.len() - 1)]
    }

    /// Line and column of a place's start, both from 1, the column in characters.
    pub fn position(&self, place: &Place) -> (usize, usize) {
        let before = head(&self.of(place).text, place.start);
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        let line = before.bytes().filter(|&byte| byte == b'\n').count() + 1;
        (line, before[line_start..].chars().count() + 1)
    }

    /// The words of a place.
    pub fn words(&self, place: &Place) -> &str {
        let text = head(&self.of(place).text, place.end);
        &text[head(text, place.start).len()..]
    }
}

/// The first `end` bytes of a text, fewer where that would split a character.
fn head(text: &str, end: usize) -> &str {
    &text[..text.floor_char_boundary(end.min(text.len()))]
}

/// A path as errors show it: control characters escaped, so that a name cannot move the terminal's cursor.
pub fn shown_path(path: &Path) -> String {
    path.to_string_lossy()
        .chars()
        .flat_map(|c| {
            let escaped = c.is_control().then(|| c.escape_default());
            let plain = escaped.is_none().then_some(c);
            escaped.into_iter().flatten().chain(plain)
        })
        .collect()
}

/// Reads the file as UTF-8 text within the limit.
pub fn read_file(file: &Path) -> Result<String, Report> {
    let label = shown_path(file);
    let fail =
        |message: String, help: &str| Report::of_file(file, String::new(), Finding::anywhere(message, help));
    let mut bytes = Vec::new();
    if file.is_dir() {
        return Err(fail(
            format!("{label} is a directory"),
            "name the machine's TOML file",
        ));
    }
    let read = File::open(file).and_then(|opened| opened.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes));
    if let Err(error) = read {
        return Err(fail(
            format!("cannot read {label}: {error}"),
            "name the machine's TOML file",
        ));
    }
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(fail(
            format!("{label} is longer than 1 MiB"),
            "name the machine's TOML file, not a disk or kernel image",
        ));
    }
    String::from_utf8(bytes).map_err(|error| not_utf8(file, &error))
}

fn not_utf8(file: &Path, error: &std::string::FromUtf8Error) -> Report {
    let at = error.utf8_error().valid_up_to();
    let byte = error.as_bytes().get(at).copied().unwrap_or_default();
    // Lossy decoding leaves everything before the first wrong byte as it is, so the offset stays right.
    let text = String::from_utf8_lossy(error.as_bytes()).into_owned();
    let finding = Finding::new(
        Place::new(0, at..at + 1),
        format!("byte {at} ({byte:#04x}) is not UTF-8"),
        "save the file as UTF-8 text",
    );
    Report::of_file(file, text, finding)
}
