//! TOML to known keys: walks the file, lays each `--set` on top, and refuses what the schema does not name.
//!
//! After this stage a value is still untrusted, but it stands under a key of [`ROWS`] and has a [`Place`]. At most two
//! levels are walked, so the nesting of a file costs nothing. A later `--set` of a key replaces an earlier one and the file's.

use super::nearest;
use super::report::{Findings, quoted};
use super::schema::{Kind, ROWS, Row, SECTIONS};
use super::source::{Place, Source, Sources};
use super::syntax::{self, Document};
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// One key with its value, as found.
pub struct Entry<'a> {
    /// Its row.
    pub row: &'static Row,
    /// Where the key stands.
    pub key: Place,
    /// The value, with spans that count from `base`.
    pub value: Spanned<DeValue<'a>>,
    base: usize,
}

impl Entry<'_> {
    /// A span inside the value as a place.
    pub fn place(&self, span: Range<usize>) -> Place {
        Place::new(self.key.source, self.base + span.start..self.base + span.end)
    }
}

/// Everything found.
#[derive(Default)]
pub struct Gathered<'a> {
    entries: BTreeMap<&'static str, Entry<'a>>,
    /// Keys that were meant, but misspelled, misplaced or on a broken line: not to be reported as missing.
    meant: BTreeSet<&'static str>,
    headers: BTreeMap<&'static str, Place>,
    broken: bool,
    file_length: usize,
}

impl<'a> Gathered<'a> {
    /// Collects all keys of all texts.
    pub fn collect(sources: &'a Sources, findings: &mut Findings) -> Self {
        let file = sources.file();
        let mut document = Document::parse(&file.text, findings);
        let mut gathered = Self {
            broken: document.has_errors(),
            file_length: file.text.len(),
            ..Self::default()
        };
        let root = std::mem::take(&mut document.root);
        gathered.walk(root, &document, findings);
        for (number, set) in sources.sets() {
            gathered.set(number, set, findings);
        }
        gathered
    }

    /// Every key found, in the order of the schema.
    pub fn entries(&self) -> impl Iterator<Item = &Entry<'a>> {
        ROWS.iter().filter_map(|row| self.entries.get(row.key))
    }

    /// The entry of a key.
    pub fn get(&self, key: &str) -> Option<&Entry<'a>> {
        self.entries.get(key)
    }

    /// Whether a key that is not there was left out on purpose, as far as can be told.
    pub fn is_missing(&self, key: &str) -> bool {
        !self.broken && !self.entries.contains_key(key) && !self.meant.contains(key)
    }

    /// Where a key of this section would be written: at its header, or else at the end of the file.
    pub fn home_of(&self, section: &str) -> Place {
        let end = self.file_length;
        self.headers
            .get(section)
            .cloned()
            .unwrap_or(Place::new(0, if section.is_empty() { 0..0 } else { end..end }))
    }

    fn walk(&mut self, root: DeTable<'a>, document: &Document<'a>, findings: &mut Findings) {
        for (key, value) in root {
            let known = SECTIONS
                .iter()
                .find(|(name, _)| !name.is_empty() && name == key.get_ref());
            match (known, value.get_ref()) {
                (Some((section, _)), DeValue::Table(_)) => {
                    self.headers.insert(section, Place::new(0, value.span()));
                    if let DeValue::Table(table) = value.into_inner() {
                        for (key, value) in table {
                            self.admit(section, key, value, document, findings);
                        }
                    }
                }
                (Some((section, _)), _) => {
                    self.meant.extend(
                        ROWS.iter()
                            .filter(|row| row.section() == *section)
                            .map(|row| row.key),
                    );
                    not_a_section(section, key.span(), &value, findings);
                }
                (None, _) => self.admit("", key, value, document, findings),
            }
        }
    }

    fn admit(
        &mut self,
        section: &'static str,
        key: Spanned<Cow<'a, str>>,
        value: Spanned<DeValue<'a>>,
        document: &Document<'a>,
        findings: &mut Findings,
    ) {
        let span = key.span();
        let doubtful = document.is_broken(&span) || document.is_broken(&value.span());
        let Some(row) = Row::find(section, key.get_ref()) else {
            if !doubtful {
                self.unknown(section, key.get_ref(), Place::new(0, span), findings);
            }
            return;
        };
        self.meant.insert(row.key);
        if !doubtful {
            let key = Place::new(0, span);
            self.entries.insert(
                row.key,
                Entry {
                    row,
                    key,
                    value,
                    base: 0,
                },
            );
        }
    }

    fn unknown(&mut self, section: &str, leaf: &str, place: Place, findings: &mut Findings) {
        let (help, row) = nearest::for_key(section, leaf);
        self.meant.extend(row.map(|row| row.key));
        findings.add(place, nearest::unknown_key(section, leaf), help);
    }

    fn set(&mut self, number: usize, set: &'a Source, findings: &mut Findings) {
        let text = set.text.as_str();
        let Some((key, raw)) = text.split_once('=') else {
            findings.add(
                Place::new(number, 0..text.len()),
                "no = between key and value",
                "write --set key=value, such as --set machine.memory=1G",
            );
            return;
        };
        let place = Place::new(number, 0..key.len());
        let (section, leaf) = key.trim().split_once('.').unwrap_or(("", key.trim()));
        let not_yet = Row::find("", section).filter(|row| row.is_not_yet());
        let Some(row) = not_yet.or_else(|| Row::find(section, leaf)) else {
            let message = format!("unknown key `{}`", quoted(key.trim()));
            findings.add(place, message, nearest::for_whole_key(key.trim()));
            return;
        };
        let trimmed = raw.trim();
        let base = key.len() + 1 + (raw.len() - raw.trim_start().len());
        match set_value(&row.kind, trimmed) {
            Ok(value) => {
                self.entries.insert(
                    row.key,
                    Entry {
                        row,
                        key: place,
                        value,
                        base,
                    },
                );
            }
            Err((span, message, help)) => {
                self.meant.insert(row.key);
                findings.add(
                    Place::new(number, base + span.start..base + span.end),
                    message,
                    help,
                );
            }
        }
    }
}

/// A `--set` value is TOML; where it is not, and where the key takes a string, it is a string that needs no quotes.
fn set_value<'a>(kind: &Kind, text: &'a str) -> Result<Spanned<DeValue<'a>>, (Range<usize>, String, String)> {
    let bare = || Spanned::new(0..text.len(), DeValue::String(Cow::Borrowed(text)));
    let bracketed = text.starts_with(['"', '\'', '[', '{']);
    match syntax::value(text) {
        Ok(value) if bracketed || !kind.takes_text() => Ok(value),
        Err(wrong) if bracketed || (text.is_empty() && !kind.takes_text()) => Err(wrong),
        Ok(_) | Err(_) => Ok(bare()),
    }
}

fn not_a_section(section: &str, key: Range<usize>, value: &Spanned<DeValue<'_>>, findings: &mut Findings) {
    let help = match value.get_ref() {
        DeValue::Array(_) => format!("write [{section}] once, in single brackets"),
        _ => format!("write [{section}] on a line of its own and its keys below"),
    };
    findings.add(Place::new(0, key), format!("`{section}` is a section"), help);
}
