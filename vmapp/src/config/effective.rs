//! The full effective configuration as TOML, every value with where it comes from.
//!
//! What must never happen here: text that is not itself a right configuration with the same values.

use super::draft::{self, Draft};
use super::gather::{Entry, Gathered};
use super::schema::{Fallback, ROWS, Row, SECTIONS, Section};
use super::source::{Sources, shown_path};
use std::fmt::Write;
use std::path::Path;
use toml::de::DeValue;

/// Column of the comments, in characters.
const COMMENT_AT: usize = 34;

/// One key as it holds.
#[derive(Clone, Debug)]
pub struct Setting {
    row: &'static Row,
    item: usize,
    state: State,
}

#[derive(Clone, Debug)]
enum State {
    /// The value as TOML, and where it comes from.
    Holds(String, String),
    /// Why there is no value.
    Silent(&'static str),
}

/// Every key of this version as it holds, in every section there is.
pub fn settings(draft: &Draft, gathered: &Gathered<'_>, sources: &Sources) -> Vec<Setting> {
    gathered
        .sections()
        .flat_map(|(section, item)| {
            let rows = ROWS
                .iter()
                .filter(move |row| row.section() == section && !row.is_not_yet());
            rows.map(move |row| Setting {
                row,
                item,
                state: state(row, item, draft, gathered, sources),
            })
        })
        .collect()
}

fn state(row: &Row, item: usize, draft: &Draft, gathered: &Gathered<'_>, sources: &Sources) -> State {
    if let Some(why) = draft::without_effect(row, draft, item) {
        return State::Silent(why);
    }
    match (gathered.get(row.key, item), row.default) {
        (Some(entry), _) => State::Holds(written(entry, sources), origin(entry, sources)),
        (None, Fallback::Is(text)) => State::Holds(text.into(), "default".into()),
        (None, Fallback::Unset | Fallback::Required) => State::Silent("not set"),
    }
}

/// The value as its writer wrote it, with the quotes that `--set` lets them leave out.
fn written(entry: &Entry<'_>, sources: &Sources) -> String {
    let words = sources.words(&entry.place(entry.value.span()));
    match entry.value.get_ref() {
        DeValue::String(text) if !words.starts_with(['"', '\'']) => {
            toml::Value::String(text.to_string()).to_string()
        }
        _ => words.to_owned(),
    }
}

fn origin(entry: &Entry<'_>, sources: &Sources) -> String {
    let label = &sources.of(&entry.key).label;
    match entry.key.source {
        0 => format!("{label}:{}", sources.position(&entry.key).0),
        _ => label.clone(),
    }
}

/// The text of `vmapp config`.
pub fn render(file: &Path, settings: &[Setting]) -> String {
    let mut text = format!(
        "# Effective configuration of {}. Relative paths start at its folder.\n",
        shown_path(file)
    );
    for section in SECTIONS {
        let of_section = || {
            settings
                .iter()
                .filter(|setting| setting.row.section() == section.name)
        };
        let items = of_section().map(|setting| setting.item + 1).max();
        match items {
            Some(items) => (0..items).for_each(|item| {
                one_section(
                    &mut text,
                    section,
                    of_section().filter(|setting| setting.item == item),
                );
            }),
            None => {
                text.push('\n');
                line(&mut text, &format!("# {}:", section.header()), "none");
            }
        }
    }
    text
}

fn one_section<'a>(text: &mut String, section: &Section, settings: impl Iterator<Item = &'a Setting>) {
    text.push('\n');
    if !section.name.is_empty() {
        line(text, &section.header(), section.about);
    }
    for setting in settings {
        let leaf = setting.row.leaf();
        match &setting.state {
            State::Holds(value, origin) => line(text, &format!("{leaf} = {value}"), origin),
            State::Silent(why) => line(text, &format!("# {leaf}:"), why),
        }
    }
}

fn line(text: &mut String, left: &str, comment: &str) {
    let start = if left.starts_with('#') { "" } else { "# " };
    // Writing to a String cannot fail.
    let _infallible = writeln!(text, "{left:<COMMENT_AT$} {start}{comment}");
}
