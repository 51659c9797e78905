//! docs/rollouts.md has every command and option of `crossfade`, and no other.

use std::collections::BTreeSet;

use clap::{Command, CommandFactory};
use controller::cli::Args;

use crate::page::read;

const PAGE: &str = "docs/rollouts.md";

/// The commands below this one, each with all of its words: `proxy upgrade`.
fn commands(command: &Command, words: &str, found: &mut Vec<(String, Command)>) {
    for inner in command.get_subcommands() {
        let words = format!("{words} {}", inner.get_name());
        if inner.has_subcommands() {
            commands(inner, &words, found);
        } else {
            found.push((words, inner.clone()));
        }
    }
}

fn options(command: &Command) -> impl Iterator<Item = String> {
    let long = command.get_arguments().filter_map(|one| one.get_long());
    long.map(|name| format!("--{name}"))
}

/// The options that a text names.
fn named(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !(c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-'));
    let options = words.filter(|word| word.starts_with("--") && word.len() > 2);
    // `|---|` is no option.
    let options = options.filter(|word| !word.starts_with("---"));
    options.map(str::to_owned).collect()
}

#[test]
fn the_page_has_every_command_and_option_and_no_other() {
    let page = read(PAGE);
    let root = Args::command();
    let mut all = Vec::new();
    commands(&root, "crossfade", &mut all);
    assert!(all.len() > 15, "{} commands", all.len());
    let mut known: BTreeSet<String> = options(&root).collect();
    for (words, command) in &all {
        assert!(
            page.contains(&format!("`{words}")),
            "{PAGE} lacks `{words}`"
        );
        known.extend(options(command));
    }
    let mut documented = named(&page);
    // Every program has it.
    documented.insert("--help".into());
    known.insert("--help".into());
    assert_eq!(documented, known, "{PAGE}: the options");
}
