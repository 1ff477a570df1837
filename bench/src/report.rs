//! How results are told: Markdown tables, and sections of a file that are replaced one by one.

use crate::Outcome;
use std::fs;
use std::path::Path;

/// A Markdown table.
pub fn table(heads: &[&str], rows: &[Vec<String>]) -> String {
    let mut widths: Vec<usize> = heads.iter().map(|head| head.chars().count()).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let line = |cells: Vec<&str>| {
        let padded = cells
            .iter()
            .zip(&widths)
            .map(|(cell, width)| format!(" {cell:width$} |"));
        format!("|{}\n", padded.collect::<String>())
    };
    let rule = widths.iter().map(|width| format!("{}|", "-".repeat(width + 2)));
    let mut text = line(heads.to_vec());
    text.push_str(&format!("|{}\n", rule.collect::<String>()));
    for row in rows {
        text.push_str(&line(row.iter().map(String::as_str).collect()));
    }
    text
}

/// Puts `body` in the place of section `name` of the Markdown file, which is kept between two comments, or at its end.
pub fn write_section(path: &Path, name: &str, body: &str) -> Outcome<()> {
    const TITLE: &str =
        "# Results\n\nWritten by the programs of this folder; do not edit between the markers.\n";
    let old = fs::read_to_string(path).unwrap_or_else(|_| TITLE.to_owned());
    fs::write(path, replace_section(&old, name, body))?;
    Ok(())
}

fn replace_section(old: &str, name: &str, body: &str) -> String {
    let (begin, end) = (
        format!("<!-- begin {name} -->\n"),
        format!("<!-- end {name} -->\n"),
    );
    let section = format!("{begin}{body}{end}");
    let place = old
        .split_once(&begin)
        .and_then(|(before, rest)| Some((before, rest.split_once(&end)?.1)));
    match place {
        Some((before, after)) => format!("{before}{section}{after}"),
        None => format!("{old}\n{section}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_section_replaces_its_predecessor_and_no_other() {
        let text = replace_section("head\n", "a", "one\n");
        let text = replace_section(&text, "b", "two\n");
        let text = replace_section(&text, "a", "three\n");
        assert_eq!(
            text,
            "head\n\n<!-- begin a -->\nthree\n<!-- end a -->\n\n<!-- begin b -->\ntwo\n<!-- end b -->\n"
        );
    }
}
