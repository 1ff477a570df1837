//! `vmapp fault --list`: what can be made to go wrong, where, and what the guest should see. For a person, and as Markdown
//! for documents; both from the tables of [`spec`](super::spec) and [`shared::msg::fault`].

use super::spec::ACTIONS;
use shared::msg::fault::Point;

/// Width of the text, in characters.
const WIDTH: usize = 100;

const FILTERS: &[(&str, &str)] = &[
    (
        "channel=",
        "control, console, net0 ..., disk0 ...; default: every one it applies to",
    ),
    ("dir=", "down (vmm to vmapp) or up (vmapp to vmm); default: both"),
    (
        "rate=",
        "probability, 0.000001 to 1, by a generator begun from the seed; default: every chance",
    ),
    ("every=", "every Nth chance"),
    ("after=", "so many chances pass first"),
    (
        "count=",
        "ends after so many; default: 1 for kill and stop, else no end",
    ),
    (
        "seed=",
        "of rate and of what is left open (which bit, which sector); default: faults.seed",
    ),
];

/// The text.
pub fn text() -> String {
    let mut text = String::from("vmapp fault NAME ACTION [KEY=VALUE]...\n\nACTIONS\n");
    for action in ACTIONS {
        let form = format!("{} {}", action.name, action.form);
        text.push_str(&format!("  {}\n", form.trim_end()));
        indented(&mut text, "      ", action.meaning);
    }
    text.push_str("\nFILTERS, of all but vmm-kill, clear and list; dir of messages and doorbells only\n");
    for (key, meaning) in FILTERS {
        text.push_str(&format!("  {key:10}{meaning}\n"));
    }
    text.push_str("\nPOINTS, for kill and stop, by number or name\n");
    for point in Point::ALL {
        let facts = point.facts();
        text.push_str(&format!(
            "  {:2}  {:12} {}\n",
            facts.number, facts.name, facts.place
        ));
        indented(&mut text, "      ", &format!("leaves: {}", facts.leaves));
        indented(&mut text, "      ", &format!("guest:  {}", facts.guest));
    }
    text.push_str(
        "\nPoints 10 and up take channel=. The same seed and the same traffic meet the same faults again; each has a\n\
         number, is counted (`faults` of the status) and logged, at most 20 lines in 10 s.\n",
    );
    text
}

/// The tables, for documents.
pub fn markdown() -> String {
    let mut text = String::from("| action | what happens, what the guest should see |\n|---|---|\n");
    for action in ACTIONS {
        let form = format!("{} {}", action.name, action.form).replace('|', "\\|");
        text.push_str(&format!("| `{}` | {} |\n", form.trim_end(), action.meaning));
    }
    text.push_str(
        "\n| no | point | where | a kill there leaves | the guest should see |\n|---|---|---|---|---|\n",
    );
    for point in Point::ALL {
        let facts = point.facts();
        text.push_str(&format!(
            "| {} | `{}` | {} | {} | {} |\n",
            facts.number, facts.name, facts.place, facts.leaves, facts.guest
        ));
    }
    text
}

/// The words of a text on lines of at most [`WIDTH`], each after `margin`.
fn indented(text: &mut String, margin: &str, words: &str) {
    let mut line = String::new();
    for word in words.split_whitespace() {
        if !line.is_empty() && margin.len() + line.len() + 1 + word.len() > WIDTH {
            text.push_str(&format!("{margin}{line}\n"));
            line.clear();
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    text.push_str(&format!("{margin}{line}\n"));
}
