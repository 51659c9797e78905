//! The length of functions: one that does not fit on a screen is split.

use std::fs;
use std::path::Path;

use proc_macro2::{Delimiter, TokenStream, TokenTree};

/// The most lines of a function, from `fn` to its closing brace.
const MOST_LINES: usize = 80;

/// Longer functions: file, name, and the reason.
const EXCEPTIONS: &[(&str, &str, &str)] = &[];

#[derive(Debug, PartialEq, Eq)]
struct Function {
    name: String,
    line: usize,
    lines: usize,
}

#[test]
fn no_function_is_longer_than_a_screen() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut finds = Vec::new();
    let mut needed = vec![false; EXCEPTIONS.len()];
    for path in super::files_below(&root) {
        let file = path.strip_prefix(&root).expect("it is below the root");
        let file = file.to_string_lossy();
        if !file.ends_with(".rs") {
            continue;
        }
        let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{file}: {error}"));
        let long = functions(&file, &text)
            .into_iter()
            .filter(|function| function.lines > MOST_LINES);
        for Function { name, line, lines } in long {
            let is_excepted =
                |(of, function, _): &(&str, &str, &str)| *of == file && *function == name;
            match EXCEPTIONS.iter().position(is_excepted) {
                Some(at) => needed[at] = true,
                None => finds.push(format!("{file}:{line}: `{name}` has {lines} lines")),
            }
        }
    }
    assert!(
        finds.is_empty(),
        "functions of more than {MOST_LINES} lines:\n{}",
        finds.join("\n")
    );
    for ((file, name, _), needed) in EXCEPTIONS.iter().zip(needed) {
        assert!(
            needed,
            "`{name}` in {file} has at most {MOST_LINES} lines: remove its exception"
        );
    }
}

/// All functions of a file that have a body, also those inside macros and other functions.
fn functions(file: &str, text: &str) -> Vec<Function> {
    let tokens: TokenStream = text
        .parse()
        .unwrap_or_else(|error| panic!("{file}: {error}"));
    let mut found = Vec::new();
    walk(tokens, &mut found);
    found
}

fn walk(tokens: TokenStream, found: &mut Vec<Function>) {
    let tokens: Vec<TokenTree> = tokens.into_iter().collect();
    for (at, token) in tokens.iter().enumerate() {
        match token {
            TokenTree::Group(group) => walk(group.stream(), found),
            TokenTree::Ident(word) if word == "fn" => {
                let line = word.span().start().line;
                found.extend(function(line, &tokens[at + 1..]));
            }
            _ => {}
        }
    }
}

/// The function that begins on this line; `after` is what follows its `fn`. `None` where it is the
/// type of a function, or has no body.
fn function(line: usize, after: &[TokenTree]) -> Option<Function> {
    let TokenTree::Ident(name) = after.first()? else {
        return None;
    };
    let body = after.iter().find(|token| match token {
        TokenTree::Group(group) => group.delimiter() == Delimiter::Brace,
        TokenTree::Punct(punct) => punct.as_char() == ';',
        _ => false,
    })?;
    let TokenTree::Group(body) = body else {
        return None;
    };
    let last = body.span_close().end().line;
    Some(Function {
        name: name.to_string(),
        line,
        lines: last - line + 1,
    })
}

#[test]
fn every_function_is_measured_from_its_first_line_to_its_brace() {
    #[track_caller]
    fn check(text: &str, want: &[(&str, usize, usize)]) {
        let got = functions("f.rs", text);
        let got: Vec<(&str, usize, usize)> = got
            .iter()
            .map(|function| (&*function.name, function.line, function.lines))
            .collect();
        assert_eq!(got, want, "{text}");
    }
    check("fn one() {}", &[("one", 1, 1)]);
    check(
        "/// Its comment.\npub async fn two<T>(\n    t: T,\n) -> [u8; 2]\nwhere\n    T: Copy,\n{\n}\n",
        &[("two", 2, 7)],
    );
    check(
        "impl T {\n    fn outer() {\n        fn inner() {\n        }\n    }\n}",
        &[("outer", 2, 4), ("inner", 3, 2)],
    );
    check(
        "proptest! {\n    fn inside(x in y()) {\n    }\n}",
        &[("inside", 2, 2)],
    );
    check("trait T { fn without(); fn with() {} }", &[("with", 1, 1)]);
    check("struct S { f: fn(u8) -> u8 }\nstruct T {}", &[]);
}
