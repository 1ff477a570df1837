//! Text to TOML, with every syntax error turned into a finding that says what to write.
//!
//! The parser recovers, so one bad line does not hide the mistakes of the others: the table it returns is good except
//! where [`Document::is_broken`] says so. What must never happen here: one slip reported many times over.

use super::report::{Findings, MAX_SHOWN, quoted};
use super::source::Place;
use std::ops::Range;
use toml::Spanned;
use toml::de::{DeTable, DeValue, Error};

/// A parsed file.
pub struct Document<'a> {
    /// What could be made of it.
    pub root: DeTable<'a>,
    /// Byte ranges of the lines with syntax errors, ascending and apart.
    broken: Vec<Range<usize>>,
}

impl<'a> Document<'a> {
    /// Parses the file's text.
    pub fn parse(text: &'a str, findings: &mut Findings) -> Self {
        let (root, errors) = DeTable::parse_recoverable(text);
        let root = root.into_inner();
        let open_table = errors
            .iter()
            .any(|error| error.message().starts_with("unclosed inline table"));
        let mut slips: Vec<Slip> = errors.iter().map(|error| Slip::new(error, open_table)).collect();
        let lines = Lines::of(text);
        slips.sort_by_key(|slip| (lines.around(slip.span.start).start, slip.rank, slip.span.start));
        slips.dedup_by_key(|slip| lines.around(slip.span.start).start);
        let runaway = slips.iter().position(|slip| slip.runaway.is_some());
        let mut broken = Vec::new();
        for (index, slip) in slips
            .iter()
            .take(runaway.map_or(slips.len(), |index| index + 1))
            .enumerate()
        {
            broken.push(lines.around(slip.span.start));
            // An explanation may search the file; those that nobody will read are not worth it.
            let (message, help) = if index < MAX_SHOWN {
                slip.explain(text, &root)
            } else {
                (slip.message.clone(), String::new())
            };
            findings.add(Place::new(0, slip.span.clone()), message, help);
        }
        if runaway.is_some()
            && let Some(last) = broken.last_mut()
        {
            last.end = text.len();
        }
        Self { root, broken }
    }

    /// Whether anything could not be parsed.
    pub fn has_errors(&self) -> bool {
        !self.broken.is_empty()
    }

    /// Whether a stretch shares a line with a syntax error, and so may not mean what it seems to.
    pub fn is_broken(&self, span: &Range<usize>) -> bool {
        let first = self.broken.partition_point(|line| line.end < span.start);
        self.broken.get(first).is_some_and(|line| line.start <= span.end)
    }
}

/// Parses one value, of a `--set`. Spans count from the start of `text`.
pub fn value<'a>(text: &'a str) -> Result<Spanned<DeValue<'a>>, (Range<usize>, String, String)> {
    DeValue::parse(text).map_err(|error| {
        let slip = Slip::new(&error, false);
        let (message, help) = slip.explain(text, &DeTable::new());
        (slip.span, message, help)
    })
}

/// Where the lines of a text start and end.
struct Lines {
    starts: Vec<usize>,
    length: usize,
}

impl Lines {
    fn of(text: &str) -> Self {
        let after_newlines = text.match_indices('\n').map(|(at, _)| at + 1);
        Self {
            starts: std::iter::once(0).chain(after_newlines).collect(),
            length: text.len(),
        }
    }

    /// The line around a byte, without its newline.
    fn around(&self, at: usize) -> Range<usize> {
        let next = self.starts.partition_point(|&start| start <= at);
        let end = self.starts.get(next).map_or(self.length, |start| start - 1);
        self.starts[next - 1]..end
    }
}

/// One syntax error.
struct Slip {
    message: String,
    span: Range<usize>,
    /// Of several on one line, the lowest is told.
    rank: u8,
    /// Message and help of the first line that an unclosed bracket swallowed: later errors only echo this one.
    runaway: Option<(&'static str, &'static str)>,
}

/// What the parser says of the first line after an inline table without end.
const IN_OPEN_TABLE: [&str; 2] = [
    "missing comma between key-value pairs",
    "missing key for inline table element",
];

/// What the parser says, by its first words, and what to write instead.
const HELP: &[(&str, &str)] = &[
    (
        "key with no value",
        "write key = value; a section is [name], a comment starts with #",
    ),
    ("unclosed table", "end the section's name with ]"),
    ("unclosed array table", "end the section's name with ]]"),
    ("unclosed array", "end the array with ]"),
    ("unclosed inline table", "end the table with }"),
    ("missing comma", "put a comma between two elements"),
    (
        "missing escaped value",
        "write a backslash as \\\\, or put the text in single quotes",
    ),
    (
        "too few unicode value digits",
        "write a backslash as \\\\, or put the text in single quotes",
    ),
    ("invalid boolean", "write true or false"),
    (
        "unexpected leading zero",
        "write the number without its leading zero",
    ),
    ("radix must be lowercase", "write 0x, 0o or 0b in small letters"),
    (
        "integers with a radix cannot be signed",
        "write the number without its sign",
    ),
    (
        "`_` may only go between digits",
        "write the digits without the stray _",
    ),
    ("unquoted keys cannot be empty", "write a name here"),
    (
        "invalid unquoted key",
        "write the key with letters, digits, - and _ only; a comment starts with #",
    ),
    (
        "unexpected key or value",
        "put each setting and each section on a line of its own; a comment starts with #",
    ),
    (
        "carriage return must be followed by newline",
        "end the line with a newline",
    ),
    ("extra `=`", "write one = only"),
    (
        "cannot recurse",
        "no key takes arrays this deep: see `vmapp explain`",
    ),
    (
        "recursion limit",
        "no key has this many dots: see `vmapp explain`",
    ),
    ("invalid comment character", "remove the control character"),
];

impl Slip {
    /// `open_table`: whether some inline table does not end.
    fn new(error: &Error, open_table: bool) -> Self {
        let message = error.message().to_owned();
        let runaway = if message.starts_with("unexpected `=` in array") {
            Some(("the array above does not end", "write ] after its last element"))
        } else if open_table && IN_OPEN_TABLE.iter().any(|start| message.starts_with(start)) {
            Some((
                "the inline table above does not end",
                "write } after its last value",
            ))
        } else {
            None
        };
        Self {
            // "a = 1 b = 2" is also told as a string without quotes: the second key is the better story.
            rank: u8::from(runaway.is_none() && !message.starts_with("unexpected key or value")),
            span: error.span().unwrap_or_default(),
            message,
            runaway,
        }
    }

    fn explain(&self, text: &str, root: &DeTable<'_>) -> (String, String) {
        let words = text.get(self.span.clone()).unwrap_or_default();
        let story = self.message.split(", expected").next().unwrap_or_default();
        if let Some((message, help)) = self.runaway {
            return (message.into(), help.into());
        }
        if story == "string values must be quoted" {
            return unquoted(words);
        }
        if story == "duplicate key" {
            return duplicate(words, text, self.span.start, root);
        }
        if self.message.starts_with("invalid") && story.ends_with("string") {
            return unfinished_string(story, words);
        }
        match HELP.iter().find(|(start, _)| story.starts_with(start)) {
            Some((_, help)) => (story.into(), (*help).into()),
            None => (
                self.message.clone(),
                "a line is key = value, [section] or # comment".into(),
            ),
        }
    }
}

fn unquoted(words: &str) -> (String, String) {
    if words.is_empty() {
        return (
            "missing value".into(),
            "write a value after =, such as \"text\", 5 or true".into(),
        );
    }
    let bare = words.trim_matches(['\u{201c}', '\u{201d}', '\u{2018}', '\u{2019}', '\'', '"', '`']);
    let bare = bare.split(" //").next().unwrap_or(bare).trim_end();
    let mut help = format!("write {}", toml::Value::String(quoted(bare)));
    if words.contains(" //") {
        help.push_str("; a comment starts with #");
    }
    ("a string needs straight quotes".into(), help)
}

fn unfinished_string(story: &str, words: &str) -> (String, String) {
    if words.is_empty() {
        let quote = if story.contains("literal") { '\'' } else { '"' };
        return (
            "the string does not end".into(),
            format!("write {quote} after its last character"),
        );
    }
    (
        format!("{story}: {} may not stand in it", words.escape_default()),
        "remove the control character, or write it as \\uXXXX".into(),
    )
}

/// `at` is where the second one stands.
fn duplicate(name: &str, text: &str, at: usize, root: &DeTable<'_>) -> (String, String) {
    let inner = root.values().filter_map(|value| value.get_ref().as_table());
    let first = inner
        .chain([root])
        .flat_map(|table| table.keys())
        .filter(|key| key.get_ref() == name && key.span().start < at)
        .map(|key| key.span().start)
        .max();
    let help = match first {
        Some(first) => format!(
            "remove it here or on line {}",
            text[..text.floor_char_boundary(first)].matches('\n').count() + 1
        ),
        None => "remove one of the two; all keys of a section stand under one header".into(),
    };
    (format!("`{}` is given twice", quoted(name)), help)
}
