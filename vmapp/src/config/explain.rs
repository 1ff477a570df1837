//! `vmapp explain`: what the schema says about a key, a section, or all of them.

use super::nearest::for_whole_key;
use super::report::quoted;
use super::schema::{Fallback, Needs, ROWS, Row, SECTIONS, Section};

/// Width of the text, in characters.
const WIDTH: usize = 80;
/// Width of the names before a row's facts.
const NAMES: usize = 10;

/// One key in full, all keys of a section in full, or (without a word) one line per key.
/// A last part alone ("memory") will do where only one key has it.
pub fn explain(word: Option<&str>) -> Result<String, String> {
    let Some(word) = word else {
        return Ok(overview());
    };
    let mut rows: Vec<&Row> = ROWS.iter().filter(|row| row.key == word).collect();
    if rows.is_empty() {
        rows = ROWS
            .iter()
            .filter(|row| row.section() == word && !word.is_empty())
            .collect();
    }
    if rows.is_empty() {
        rows = ROWS.iter().filter(|row| row.leaf() == word).collect();
    }
    if rows.is_empty() {
        return Err(format!(
            "error: unknown key `{}`\n = help: {}\n",
            quoted(word),
            for_whole_key(word)
        ));
    }
    Ok(rows.into_iter().map(in_full).collect::<Vec<_>>().join("\n"))
}

/// All keys as a Markdown table, for documents.
pub fn markdown() -> String {
    let mut text = String::from("| key | values | default | meaning |\n|---|---|---|---|\n");
    for row in ROWS {
        let meaning = row.meaning.replace('|', "\\|");
        let default = match row.default {
            Fallback::Is(text) => format!("`{text}`"),
            _ => default_in_words(row),
        };
        let values = row.kind.range();
        text.push_str(&format!("| `{}` | {values} | {default} | {meaning} |\n", row.key));
    }
    text
}

fn overview() -> String {
    let width = ROWS.iter().map(|row| row.leaf().len()).max().unwrap_or_default();
    let mut text = String::new();
    for section in SECTIONS {
        match section.name {
            "" => text.push_str(&format!("top level: {}\n", section.about)),
            _ => text.push_str(&format!("{}: {}\n", section.header(), section.about)),
        }
        for row in ROWS.iter().filter(|row| row.section() == section.name) {
            let default = match row.default {
                Fallback::Is(text) => format!("; default {text}"),
                Fallback::Required => "; required".into(),
                Fallback::Unset => String::new(),
            };
            text.push_str(&format!(
                "  {:width$}  {}{default}\n",
                row.leaf(),
                row.kind.range()
            ));
        }
    }
    text.push_str("\n`vmapp explain KEY` tells all about one, such as `vmapp explain machine.memory`.\n");
    text
}

fn in_full(row: &Row) -> String {
    let mut facts = vec![("type", row.kind.noun().to_owned()), ("values", row.kind.range())];
    if row.is_not_yet() {
        facts.truncate(0);
        facts.push(("status", row.kind.range()));
    } else {
        facts.push(("default", default_in_words(row)));
    }
    let needs = match row.needs {
        Needs::Nothing => None,
        Needs::Kernel => Some("boot.kernel"),
        Needs::Tap => Some("backend = \"tap\" in the same section"),
        Needs::Nat => Some("backend = \"nat\" in the same section"),
        Needs::Overlay => Some("mode = \"overlay\" in the same section"),
    };
    facts.extend(needs.map(|needs| ("needs", needs.to_owned())));
    if Section::find(row.section()).is_some_and(|section| section.is_list()) {
        facts.push((
            "set",
            format!("--set {}.0.{}=..., counted from 0", row.section(), row.leaf()),
        ));
    }
    facts.push(("meaning", row.meaning.into()));
    if !row.is_not_yet() {
        facts.push(("example", row.example_line()));
    }
    let mut text = format!("{}\n", row.key);
    for (name, fact) in facts {
        for (index, line) in wrapped(&fact).iter().enumerate() {
            let name = if index == 0 { name } else { "" };
            text.push_str(&format!("  {name:NAMES$}{line}\n"));
        }
    }
    text
}

fn default_in_words(row: &Row) -> String {
    match row.default {
        Fallback::Required => "required".into(),
        Fallback::Unset => "not set".into(),
        Fallback::Is(text) => text.into(),
    }
}

/// The words of a text on lines of at most [`WIDTH`].
fn wrapped(text: &str) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let fits = lines
            .last()
            .is_some_and(|line| line.len() + 1 + word.len() <= WIDTH - NAMES - 2);
        match lines.last_mut() {
            Some(line) if line.is_empty() => line.push_str(word),
            Some(line) if fits => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}
