//! TOML to known keys: walks the file, lays each `--set` on top, and refuses what the schema does not name.
//!
//! After this stage a value is still untrusted, but it stands under a key of [`ROWS`] and has a [`Place`]. At most two
//! levels are walked, so the nesting of a file costs nothing. A later `--set` of a key replaces an earlier one and the file's.

use super::nearest;
use super::report::{Findings, quoted};
use super::schema::{Kind, ROWS, Row, SECTIONS, Section};
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
    /// Which of the sections of this name it stands in; 0 where there is one.
    pub item: usize,
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
    entries: BTreeMap<(&'static str, usize), Entry<'a>>,
    /// Keys that were meant, but misspelled, misplaced or on a broken line: not to be reported as missing.
    meant: BTreeSet<(&'static str, usize)>,
    /// The headers of each section, in order.
    headers: BTreeMap<&'static str, Vec<Place>>,
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

    /// Every section there is: name and number, in the order of the schema. Those that stand once are always there.
    pub fn sections(&self) -> impl Iterator<Item = (&'static str, usize)> {
        SECTIONS.iter().flat_map(|section| {
            let count = if section.is_list() {
                self.headers.get(section.name).map_or(0, Vec::len)
            } else {
                1
            };
            (0..count).map(|item| (section.name, item))
        })
    }

    /// Every key found in a section, in the order of the schema.
    pub fn entries_of(&self, section: &str, item: usize) -> impl Iterator<Item = &Entry<'a>> {
        ROWS.iter()
            .filter(move |row| row.section() == section)
            .filter_map(move |row| self.entries.get(&(row.key, item)))
    }

    /// The entry of a key.
    pub fn get(&self, key: &'static str, item: usize) -> Option<&Entry<'a>> {
        self.entries.get(&(key, item))
    }

    /// Whether a key that is not there was left out on purpose, as far as can be told.
    pub fn is_missing(&self, key: &'static str, item: usize) -> bool {
        !self.broken && !self.entries.contains_key(&(key, item)) && !self.meant.contains(&(key, item))
    }

    /// Where a key of this section would be written: at its header, or else at the end of the file.
    pub fn home_of(&self, section: &str, item: usize) -> Place {
        let end = self.file_length;
        self.headers
            .get(section)
            .and_then(|headers| headers.get(item))
            .cloned()
            .unwrap_or(Place::new(0, if section.is_empty() { 0..0 } else { end..end }))
    }

    fn walk(&mut self, root: DeTable<'a>, document: &Document<'a>, findings: &mut Findings) {
        for (key, value) in root {
            let known = Section::find(key.get_ref()).filter(|section| !section.name.is_empty());
            let Some(section) = known else {
                self.admit("", 0, key, value, document, findings);
                continue;
            };
            let place = value.span();
            match (section.is_list(), value.into_inner()) {
                (false, DeValue::Table(table)) => self.section(section, place, table, document, findings),
                (true, DeValue::Array(array)) => {
                    for element in array {
                        let place = element.span();
                        match element.into_inner() {
                            DeValue::Table(table) => self.section(section, place, table, document, findings),
                            _ => not_a_section(section, place, "one", findings),
                        }
                    }
                }
                (_, other) => {
                    let rows = ROWS.iter().filter(|row| row.section() == section.name);
                    self.meant.extend(rows.map(|row| (row.key, 0)));
                    let found = match other {
                        DeValue::Table(_) => "single",
                        DeValue::Array(_) => "double",
                        _ => "value",
                    };
                    not_a_section(section, key.span(), found, findings);
                }
            }
        }
    }

    /// One section of the file.
    fn section(
        &mut self,
        section: &'static Section,
        place: Range<usize>,
        table: DeTable<'a>,
        document: &Document<'a>,
        findings: &mut Findings,
    ) {
        let headers = self.headers.entry(section.name).or_default();
        let item = headers.len();
        if item == section.most {
            let message = format!("a machine has at most {item} of {}", section.header());
            return findings.add(Place::new(0, place), message, "remove this one");
        }
        headers.push(Place::new(0, place));
        for (key, value) in table {
            self.admit(section.name, item, key, value, document, findings);
        }
    }

    fn admit(
        &mut self,
        section: &'static str,
        item: usize,
        key: Spanned<Cow<'a, str>>,
        value: Spanned<DeValue<'a>>,
        document: &Document<'a>,
        findings: &mut Findings,
    ) {
        let span = key.span();
        let doubtful = document.is_broken(&span) || document.is_broken(&value.span());
        let Some(row) = Row::find(section, key.get_ref()) else {
            if !doubtful {
                self.unknown(section, item, key.get_ref(), Place::new(0, span), findings);
            }
            return;
        };
        self.meant.insert((row.key, item));
        if !doubtful {
            let key = Place::new(0, span);
            self.entries.insert(
                (row.key, item),
                Entry {
                    row,
                    item,
                    key,
                    value,
                    base: 0,
                },
            );
        }
    }

    fn unknown(&mut self, section: &str, item: usize, leaf: &str, place: Place, findings: &mut Findings) {
        let (help, row) = nearest::for_key(section, leaf);
        self.meant.extend(row.map(|row| (row.key, item)));
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
        let Some((row, item)) = self.target_of_set(key.trim()) else {
            let message = format!("unknown key `{}`", quoted(key.trim()));
            findings.add(place, message, nearest::for_whole_key(key.trim()));
            return;
        };
        let trimmed = raw.trim();
        let base = key.len() + 1 + (raw.len() - raw.trim_start().len());
        match set_value(&row.kind, trimmed) {
            Ok(value) => {
                if let Some(section) = Section::find(row.section()).filter(|section| section.is_list()) {
                    let headers = self.headers.entry(section.name).or_default();
                    if headers.len() == item {
                        headers.push(place.clone());
                    }
                }
                self.entries.insert(
                    (row.key, item),
                    Entry {
                        row,
                        item,
                        key: place,
                        value,
                        base,
                    },
                );
            }
            Err((span, message, help)) => {
                self.meant.insert((row.key, item));
                findings.add(
                    Place::new(number, base + span.start..base + span.end),
                    message,
                    help,
                );
            }
        }
    }

    /// The row `section.leaf`, or `section.number.leaf` where a section stands once for each device: of one that is
    /// there, or the next.
    fn target_of_set(&self, key: &str) -> Option<(&'static Row, usize)> {
        let (section, leaf) = key.split_once('.').unwrap_or(("", key));
        let Some(list) = Section::find(section).filter(|section| section.is_list()) else {
            return Row::find(section, leaf).map(|row| (row, 0));
        };
        let (number, leaf) = leaf.split_once('.')?;
        let item: usize = number.parse().ok()?;
        let there = self.headers.get(list.name).map_or(0, Vec::len);
        (item <= there && item < list.most).then_some((Row::find(section, leaf)?, item))
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

/// `found`: what stands there instead of the section.
fn not_a_section(section: &Section, key: Range<usize>, found: &str, findings: &mut Findings) {
    let header = section.header();
    let help = match (found, section.is_list()) {
        ("double", _) => format!("write {header} once, in single brackets"),
        ("single", _) => format!("write {header}, in double brackets: there may be several"),
        _ => format!("write {header} on a line of its own and its keys below"),
    };
    findings.add(
        Place::new(0, key),
        format!("`{}` is a section", section.name),
        help,
    );
}
