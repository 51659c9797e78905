//! The field's own words: private names that the project gave up do not come back.
//!
//! Three lists, from the strictest to the mildest: [`ANYWHERE`], [`IN_NAMES`] and [`AS_A_NAME`].
//! [`EXCEPTIONS`] names each place where the English word is really meant, with the reason. An
//! exception that is not needed any more fails, too.

#![expect(
    clippy::expect_used,
    clippy::panic,
    reason = "a test says what went wrong by panicking"
)]

mod exceptions;
mod sizes;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use proc_macro2::{TokenStream, TokenTree};

use exceptions::EXCEPTIONS;

/// Words that stand nowhere: not in names, comments, texts or documents. Each with what to write.
const ANYWHERE: &[(&str, &str)] = &[
    ("answer", "response; to respond"),
    ("answered", "responded"),
    ("answers", "responses"),
    ("condemn", "should_roll_back"),
    ("condemned", "rolled back"),
    ("condemns", "should_roll_back"),
    ("detour", "redraw"),
    ("elder", "draining process"),
    ("elders", "draining processes"),
    ("estate", "HandoverState"),
    ("farewell", "close_notify"),
    ("guilty", "rollback_reason"),
    ("haste", "latency_limits"),
    ("heir", "standby"),
    ("heirs", "standbys"),
    ("lifeline", "CancelHandle"),
    ("lookout", "outlier monitor"),
    (
        "nobody",
        "a sentence with a subject: 'no client', 'nothing'",
    ),
    ("patience", "Backoff"),
    ("rang", "WaitError"),
    ("recipe", "ContainerTemplate"),
    ("recipes", "ContainerTemplate"),
    ("ruin", "fault_injection"),
    ("seldom", "LogThrottle; rarely"),
    (
        "somebody",
        "a sentence with a subject: 'a client', 'another caller'",
    ),
    ("tide", "MemoryTrimmer"),
    ("vitals", "process_stats"),
    (
        "whoever",
        "a sentence with a subject: 'the caller', 'the side that …'",
    ),
    ("wish", "RoutingHints; optional"),
    ("wishes", "RoutingHints; optional"),
];

/// Words that are no part of a name: of an identifier, a file, a flag, a key or a metric.
const IN_NAMES: &[(&str, &str)] = &[
    ("alarm", "timer"),
    ("ask", "request, probe, query; command"),
    ("asked", "RequestTraits"),
    ("asks", "requests, probes, queries; commands"),
    ("complaints", "ThrottledWarnings"),
    ("entering", "Transition"),
    ("figures", "counts, stats"),
    ("inbox", "ReadBuffer"),
    ("mend", "clear_cut; fix"),
    ("passage", "Relay"),
    ("picture", "snapshot"),
    ("poor", "hold_reason"),
    ("reach", "Transport"),
    ("refusal", "LocalReply"),
    ("shortage", "ResourceExhausted"),
    ("site", "project"),
    ("stories", "scenarios"),
    ("survival", "recovery"),
    ("tend", "reconcile"),
    ("trouble", "last_error"),
    ("wheel", "WeightedRing"),
];

/// Names as a whole.
const AS_A_NAME: &[(&str, &str)] = &[
    ("Ask", "Command"),
    ("Draw", "PickContext"),
    ("Elsewhere", "RemoteCounts"),
    ("Held", "TableView"),
    ("HeldWell", "HeldHealthCheck"),
    ("Leave", "PhaseExit"),
    ("Life", "lifecycle"),
    ("Mark", "Checkpoint"),
    ("Place", "Permit or Slot, by meaning"),
    ("Stage", "ShutdownPhase, StepSpec, TestEnv"),
    ("Standing", "ProcessRole"),
    ("Stay", "PhaseExit"),
    ("Todo", "Actions"),
    ("Try", "Attempt"),
    ("Yours", "Commit"),
    ("holder", "infra container"),
    ("life", "lifecycle"),
    ("python", "line format"),
    ("to_connect", "connecting"),
    ("to_read", "reading"),
    ("to_wait", "waiting"),
];

/// Files that say what was, or what others wrote.
const LEFT_OUT: &[&str] = &[
    "CHANGELOG.md",
    "LICENSE",
    "Cargo.lock",
    "tests/tests/words/",
    "benches/pingora/Cargo.lock",
    "fuzz/Cargo.lock",
    "fuzz/seeds/",
    "admin-api/tests/old_formats",
    "controller/tests/old_formats",
    "proxy/src/lifecycle/handover/old_formats.rs",
    "proxy/tests/old_formats/",
];

/// One place where a word stands.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Find {
    word: String,
    place: String,
    instead: &'static str,
}

#[test]
fn the_tree_speaks_the_fields_words() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut finds = BTreeSet::new();
    for file in files_below(&root) {
        let shown = file.strip_prefix(&root).expect("it is below the root");
        let shown = shown.to_string_lossy().into_owned();
        if LEFT_OUT.iter().any(|left_out| shown.starts_with(left_out)) {
            continue;
        }
        finds.extend(in_name(&shown, &shown));
        // What is not UTF-8 is no text of ours.
        let Ok(text) = fs::read_to_string(&file) else {
            continue;
        };
        finds.extend(in_text(&shown, &text));
        if shown.ends_with(".rs") {
            finds.extend(in_code(&shown, &text));
        }
    }
    let mut needed = BTreeSet::new();
    finds.retain(|find| {
        let is_excepted = |(word, place, _): &(&str, &str, &str)| {
            *word == find.word && find.place.starts_with(place)
        };
        let mut excepted = (0..EXCEPTIONS.len()).filter(|&at| is_excepted(&EXCEPTIONS[at]));
        let exception = excepted.next();
        needed.extend(exception);
        exception.is_none()
    });
    let lines: Vec<String> = finds
        .iter()
        .map(|find| format!("{}: `{}`: write {}", find.place, find.word, find.instead))
        .collect();
    assert!(
        lines.is_empty(),
        "{} words:\n{}",
        lines.len(),
        lines.join("\n")
    );
    for (at, (word, place, _)) in EXCEPTIONS.iter().enumerate() {
        assert!(
            needed.contains(&at),
            "exceptions.rs: `{word}` does not stand in {place} any more: take the exception off"
        );
    }
}

/// Files below a folder that could be committed: no build output, nothing hidden but `.ci`.
fn files_below(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{folder:?}: {error}"));
    let mut files = Vec::new();
    for entry in entries {
        let path = entry.expect("the folder can be read").path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let is_hidden = name.starts_with('.') && name != ".ci";
        if is_hidden || ["target", "corpus", "artifacts", "images"].contains(&&*name) {
            continue;
        }
        if path.is_dir() {
            files.extend(files_below(&path));
        } else {
            files.push(path);
        }
    }
    files
}

/// The parts of a name, in lower case: of `snake_case`, `kebab-case`, `CamelCase` and paths.
fn parts(name: &str) -> Vec<String> {
    let mut parts = Vec::new();
    for piece in name.split(|c: char| !c.is_ascii_alphabetic()) {
        let mut part = String::new();
        let mut previous_is_lower = false;
        for c in piece.chars() {
            if c.is_ascii_uppercase() && previous_is_lower {
                parts.push(std::mem::take(&mut part));
            }
            previous_is_lower = c.is_ascii_lowercase();
            part.push(c.to_ascii_lowercase());
        }
        parts.push(part);
    }
    parts
}

fn in_text(file: &str, text: &str) -> Vec<Find> {
    let mut finds = Vec::new();
    for (at, line) in text.lines().enumerate() {
        let parts = parts(line);
        for &(word, instead) in ANYWHERE {
            if parts.iter().any(|part| part == word) {
                finds.push(find(word, format!("{file}:{}", at + 1), instead));
            }
        }
    }
    finds
}

fn in_name(name: &str, place: &str) -> Vec<Find> {
    let parts = parts(name);
    let of_parts = ANYWHERE
        .iter()
        .chain(IN_NAMES)
        .filter(|(word, _)| parts.iter().any(|part| part == word));
    let whole = AS_A_NAME.iter().filter(|(word, _)| *word == name);
    of_parts
        .chain(whole)
        .map(|&(word, instead)| find(word, place.to_owned(), instead))
        .collect()
}

fn find(word: &str, place: String, instead: &'static str) -> Find {
    Find {
        word: word.to_owned(),
        place,
        instead,
    }
}

fn in_code(file: &str, text: &str) -> Vec<Find> {
    let tokens: TokenStream = text
        .parse()
        .unwrap_or_else(|error| panic!("{file}: {error}"));
    let mut finds = Vec::new();
    walk(tokens, file, &mut finds);
    finds
}

fn walk(tokens: TokenStream, file: &str, finds: &mut Vec<Find>) {
    for token in tokens {
        let line = token.span().start().line;
        match token {
            TokenTree::Group(group) => walk(group.stream(), file, finds),
            TokenTree::Ident(name) => {
                finds.extend(in_name(&name.to_string(), &format!("{file}:{line}")));
            }
            // A text without a space is a key, a flag or a metric.
            TokenTree::Literal(literal) => {
                let text = literal.to_string();
                if text.starts_with('"') && !text.contains(' ') {
                    let name = text.trim_matches('"');
                    finds.extend(in_name(name, &format!("{file}:{line}")));
                }
            }
            TokenTree::Punct(_) => {}
        }
    }
}

#[test]
fn a_word_is_found_in_every_kind_of_name() {
    #[track_caller]
    fn check(text: &str, want: &[&str]) {
        let got = in_text("f.rs", text)
            .into_iter()
            .chain(in_code("f.rs", text));
        let got: BTreeSet<String> = got.map(|find| find.word).collect();
        let want: BTreeSet<String> = want.iter().map(|&word| word.to_owned()).collect();
        assert_eq!(got, want, "{text}");
    }
    check("struct KeyWish;", &["wish"]);
    check("fn forget_elders() {}", &["elders"]);
    check("const NO_WISH: u8 = 0;", &["wish"]);
    check("let x = \"crossfade_elders\";", &["elders"]);
    check("let x = \"dropped-figures\";", &["figures"]);
    check("// the elder's request", &["elder"]);
    // In a sentence, these are English.
    check("// a request may reach its site", &[]);
    check("let x = \"a request may reach its site\";", &[]);
    check("fn reach() {}", &["reach"]);
    check("let place = Place::new();", &["Place"]);
    check("// their responses", &[]);
    assert_eq!(
        parts("HTTPAnswer/foo-bar.rs"),
        ["httpanswer", "foo", "bar", "rs"]
    );
    assert_eq!(in_name("proxy/src/lookout.rs", "p").len(), 1);
}
