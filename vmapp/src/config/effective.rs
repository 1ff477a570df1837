//! The full effective configuration as TOML, every value with where it comes from.
//!
//! What must never happen here: text that is not itself a right configuration with the same values.

use super::draft;
use super::gather::{Entry, Gathered};
use super::schema::{Fallback, ROWS, Row, SECTIONS};
use super::source::{Sources, shown_path};
use std::fmt::Write;
use std::path::Path;
use toml::de::DeValue;

/// Column of the comments, in characters.
const COMMENT_AT: usize = 34;

/// One key as it holds.
#[derive(Clone, Debug)]
pub struct Setting {
    key: &'static str,
    state: State,
}

#[derive(Clone, Debug)]
enum State {
    /// The value as TOML, and where it comes from.
    Holds(String, String),
    /// Why there is no value.
    Silent(&'static str),
}

/// Every key of this version as it holds.
pub fn settings(gathered: &Gathered<'_>, sources: &Sources) -> Vec<Setting> {
    ROWS.iter()
        .filter(|row| !row.is_not_yet())
        .map(|row| Setting {
            key: row.key,
            state: state(row, gathered, sources),
        })
        .collect()
}

fn state(row: &Row, gathered: &Gathered<'_>, sources: &Sources) -> State {
    if let Some(why) = draft::without_effect(row.needs, gathered) {
        return State::Silent(why);
    }
    match (gathered.get(row.key), row.default) {
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
    for (section, about) in SECTIONS {
        let of_section = settings.iter().filter(|setting| {
            let section_of = setting.key.split_once('.').map_or("", |(section, _)| section);
            section_of == *section
        });
        text.push('\n');
        if !section.is_empty() {
            line(&mut text, &format!("[{section}]"), about);
        }
        for setting in of_section {
            let leaf = setting.key.rsplit('.').next().unwrap_or(setting.key);
            match &setting.state {
                State::Holds(value, origin) => line(&mut text, &format!("{leaf} = {value}"), origin),
                State::Silent(why) => line(&mut text, &format!("# {leaf}:"), why),
            }
        }
    }
    text
}

fn line(text: &mut String, left: &str, comment: &str) {
    let start = if left.starts_with('#') { "" } else { "# " };
    // Writing to a String cannot fail.
    let _infallible = writeln!(text, "{left:<COMMENT_AT$} {start}{comment}");
}
