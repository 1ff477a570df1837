//! The nearest match of a word the schema does not know.
//!
//! What must never happen here: a suggestion that is farther off than the reader's own second guess.

use super::report::quoted;
use super::schema::{ROWS, Row, SECTIONS, Section};

/// Words longer than this are no slip of the finger, and would make the distance costly.
const MAX_WORD: usize = 64;

/// The candidate a writer of `word` most likely meant.
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    if word.len() > MAX_WORD {
        return None;
    }
    let word = word.to_lowercase();
    let allowed = (word.chars().count() / 3).max(1);
    candidates
        .into_iter()
        .map(|candidate| (distance(&word, candidate), candidate))
        .filter(|(distance, _)| *distance <= allowed)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// Edits from one to the other; a beginning of at least three letters counts as one ("mem" for "memory").
fn distance(word: &str, candidate: &str) -> usize {
    if word.len() >= 3 && candidate.starts_with(word) {
        return usize::from(word != candidate);
    }
    strsim::damerau_levenshtein(word, candidate)
}

/// What to write instead of an unknown key, and the row that was probably meant.
pub fn for_key(section: &str, leaf: &str) -> (String, Option<&'static Row>) {
    let here = || ROWS.iter().filter(|row| row.section() == section);
    if let Some(row) = ROWS.iter().find(|row| row.key == leaf) {
        return (
            format!("write it without quotes: {} = {}", row.key, row.example),
            Some(row),
        );
    }
    if section.is_empty()
        && let Some(named) = nearest(
            leaf,
            SECTIONS
                .iter()
                .map(|section| section.name)
                .filter(|name| !name.is_empty()),
        )
    {
        return (format!("did you mean {}?", header(named)), None);
    }
    if let Some(row) = nearest(leaf, here().map(Row::leaf)).and_then(|leaf| Row::find(section, leaf)) {
        return (format!("did you mean `{}`?", row.leaf()), Some(row));
    }
    let elsewhere = nearest(leaf, ROWS.iter().map(Row::leaf));
    if let Some(row) = elsewhere.and_then(|leaf| ROWS.iter().find(|row| row.leaf() == leaf)) {
        let place = match row.section() {
            "" => "before the first section".into(),
            section => format!("under {}", header(section)),
        };
        let help = if row.leaf() == leaf {
            format!("`{leaf}` stands {place}")
        } else {
            format!("did you mean `{}`? It stands {place}", row.leaf())
        };
        return (help, Some(row));
    }
    let known = here()
        .filter(|row| !row.is_not_yet())
        .map(Row::leaf)
        .collect::<Vec<_>>()
        .join(", ");
    match section {
        "" => (
            format!("before the first section, use {known}; or see `vmapp explain`"),
            None,
        ),
        _ => (format!("{} has {known}", header(section)), None),
    }
}

fn header(section: &str) -> String {
    Section::find(section).map_or_else(|| format!("[{section}]"), Section::header)
}

/// The message for an unknown key.
pub fn unknown_key(section: &str, leaf: &str) -> String {
    match section {
        "" => format!("unknown key `{}`", quoted(leaf)),
        _ => format!("unknown key `{}` in {}", quoted(leaf), header(section)),
    }
}

/// What to write instead of an unknown dotted key, as `--set` and `vmapp explain` take them.
pub fn for_whole_key(key: &str) -> String {
    let (section, leaf) = key.split_once('.').unwrap_or(("", key));
    let known = || ROWS.iter().filter(|row| !row.is_not_yet());
    if let Some(section) = Section::find(key).filter(|section| !section.name.is_empty()) {
        let keys = known().filter(|row| row.section() == section.name);
        return format!(
            "{} is a section; its keys are {}",
            section.header(),
            keys.map(|row| row.key).collect::<Vec<_>>().join(", ")
        );
    }
    if let Some(list) = Section::find(section).filter(|section| section.is_list()) {
        let leaf = leaf.rsplit('.').next().unwrap_or(leaf);
        let leaves = known().filter(|row| row.section() == list.name).map(Row::leaf);
        let leaf = nearest(leaf, leaves).unwrap_or("LEAF");
        return format!(
            "{} may stand several times: write {section}.0.{leaf} for the first, and count on",
            list.header()
        );
    }
    let same_leaf = known().find(|row| row.leaf() == leaf).map(|row| row.key);
    let in_section = || known().filter(|row| row.section() == section).map(Row::leaf);
    let near_leaf = || {
        nearest(leaf, in_section())
            .and_then(|leaf| Row::find(section, leaf))
            .map(|row| row.key)
    };
    match same_leaf
        .or_else(near_leaf)
        .or_else(|| nearest(key, known().map(|row| row.key)))
    {
        Some(key) => format!("did you mean `{key}`?"),
        None => "`vmapp explain` lists all keys".into(),
    }
}
