//! The layer test: a file imports from rooms below its own, never from one above.
//!
//! A *room* is a folder or a file directly below a crate's `src`. ARCHITECTURE.md lists the rooms of
//! a crate from the top floor down, in the table below the line `<!-- rooms: CRATE/src -->`, a row
//! for each floor. That table is the only list: the test reads it, and so do people.
//!
//! The rules:
//! 1. Every room stands in the table, and the table names no room that is gone.
//! 2. A file imports from its own room and from rooms of lower floors. Rooms of one floor do not
//!    import from each other, so there is no circle between rooms.
//! 3. Inside a room, files and folders do not import from each other in a circle. `mod.rs` is the
//!    face of its folder and takes no part in this rule.
//!
//! Code that only tests compile (`#[cfg(test)]`) is free.
//!
//! `proxy/tests/layers.rs` and `controller/tests/layers.rs` include this file by path, so that
//! neither crate has to build the whole harness for it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use proc_macro2::{Delimiter, Group, TokenStream, TokenTree};

/// One import: where it stands, and the module that it names.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Import {
    line: usize,
    /// The path below the crate's root, as far as it was written.
    path: Vec<String>,
}

/// Imports between the children of one folder: from and to, with one place that has it.
type Edges = BTreeMap<(String, String), (String, usize)>;

/// What a source file says about modules.
#[derive(Debug, Default)]
struct Source {
    imports: Vec<Import>,
    /// Modules in files of their own that only tests compile.
    test_modules: BTreeSet<String>,
}

/// Fails, naming file, line and rule, where the crate in `folder` breaks a rule.
#[track_caller]
pub(crate) fn assert_kept(folder: &str) {
    let folder = Path::new(folder);
    let name = folder.file_name().unwrap_or_default().to_string_lossy();
    let map = folder.join("../ARCHITECTURE.md");
    let text = fs::read_to_string(&map).expect("ARCHITECTURE.md is beside the crates");
    let floors = floors(&text, &format!("{name}/src"));
    let broken = broken_rules(&folder.join("src"), &format!("{name}/src"), &floors);
    assert!(
        broken.is_empty(),
        "{} broken layer rules:\n{}",
        broken.len(),
        broken.join("\n")
    );
}

/// The rooms of ARCHITECTURE.md's table for `src`, by floor, the top floor first.
fn floors(text: &str, src: &str) -> Vec<Vec<String>> {
    let mark = format!("<!-- rooms: {src} -->");
    let below = text
        .split_once(&mark)
        .unwrap_or_else(|| panic!("ARCHITECTURE.md has no line `{mark}`"))
        .1;
    let rows = below.lines().skip_while(|line| !line.starts_with('|'));
    let rows = rows.take_while(|line| line.starts_with('|')).skip(2);
    rows.map(|row| {
        let cell = row.split('|').nth(1).unwrap_or_default();
        let rooms = cell.split('`').skip(1).step_by(2);
        rooms
            .map(|room| room.trim_end_matches('/').to_owned())
            .collect()
    })
    .collect()
}

/// Every rule that the sources below `src` break, a line for each.
fn broken_rules(src: &Path, shown: &str, floors: &[Vec<String>]) -> Vec<String> {
    let files = sources(src);
    let mut broken = Vec::new();
    let floor_of: BTreeMap<&str, usize> = floors
        .iter()
        .enumerate()
        .flat_map(|(floor, rooms)| rooms.iter().map(move |room| (&**room, floor)))
        .collect();
    let rooms: BTreeSet<&str> = files.keys().map(|file| room_of(file)).collect();
    for room in floor_of.keys().filter(|room| !rooms.contains(*room)) {
        broken.push(format!(
            "ARCHITECTURE.md: `{room}` is listed, and {shown} has no such room: take it off the list"
        ));
    }
    for room in rooms.iter().filter(|room| !floor_of.contains_key(*room)) {
        broken.push(format!(
            "{shown}/{room}: no floor of ARCHITECTURE.md's table has this room: give it one"
        ));
    }
    let mut graph: BTreeMap<String, Edges> = BTreeMap::new();
    for (file, source) in &files {
        for import in &source.imports {
            let Some(target) = file_of(&import.path, &files) else {
                continue;
            };
            let (from, to) = (room_of(file), room_of(target));
            let at = format!("{shown}/{file}:{}", import.line);
            let path = import.path.join("::");
            if from == to {
                if let Some((folder, a, b)) = parting(file, target) {
                    let edges = graph.entry(folder).or_default();
                    edges
                        .entry((a, b))
                        .or_insert_with(|| (format!("{shown}/{file}"), import.line));
                }
                continue;
            }
            let (Some(own), Some(other)) = (floor_of.get(from), floor_of.get(to)) else {
                continue;
            };
            if other < own {
                broken.push(format!(
                    "{at}: imports crate::{path}, and `{to}` is above `{from}`: move what is needed \
                     down, or pass it in"
                ));
            } else if other == own {
                broken.push(format!(
                    "{at}: imports crate::{path}, and `{to}` is on the floor of `{from}`: rooms of \
                     one floor do not import from each other"
                ));
            }
        }
    }
    for (folder, edges) in &graph {
        if let Some(circle) = circle(edges) {
            broken.push(format!(
                "{shown}/{folder}: files import from each other in a circle: {circle}"
            ));
        }
    }
    broken
}

/// The file that a module path ends in, or `None` where it is the file's own item.
fn file_of<'f>(path: &[String], files: &'f BTreeMap<String, Source>) -> Option<&'f str> {
    for length in (1..=path.len()).rev() {
        let module = path[..length].join("/");
        for name in [format!("{module}.rs"), format!("{module}/mod.rs")] {
            if let Some((file, _)) = files.get_key_value(&name) {
                return Some(file);
            }
        }
    }
    files.get_key_value("lib.rs").map(|(file, _)| &**file)
}

/// The room of a file: the first part of its path.
fn room_of(file: &str) -> &str {
    file.split('/').next().unwrap_or(file)
}

/// The innermost folder that both files are in, and the child of it that each is or is in. `None`
/// where one of them is that folder's face, or both are in the same child.
fn parting(from: &str, to: &str) -> Option<(String, String, String)> {
    let (a, b): (Vec<_>, Vec<_>) = (from.split('/').collect(), to.split('/').collect());
    let common = a.iter().zip(&b).take_while(|(a, b)| a == b).count();
    let (child_a, child_b) = (a.get(common)?, b.get(common)?);
    // `x.rs` beside `x/` is the face of the folder `x`.
    let stem = |name: &str| name.trim_end_matches(".rs").to_owned();
    if *child_a == "mod.rs" || *child_b == "mod.rs" || stem(child_a) == stem(child_b) {
        return None;
    }
    Some((a[..common].join("/"), stem(child_a), stem(child_b)))
}

/// One circle among the edges, as text, with the import that each step of it comes from.
fn circle(edges: &Edges) -> Option<String> {
    let next = |node: &str| -> Vec<&str> {
        let from = edges.keys().filter(|(from, _)| from == node);
        from.map(|(_, to)| &**to).collect()
    };
    let nodes: BTreeSet<&str> = edges.keys().map(|(from, _)| &**from).collect();
    for start in nodes {
        // Breadth first, so that the circle shown is a shortest one through `start`.
        let mut came_from: BTreeMap<&str, &str> = BTreeMap::new();
        let mut queue = std::collections::VecDeque::from([start]);
        while let Some(node) = queue.pop_front() {
            for to in next(node) {
                if to == start {
                    let mut way = vec![start, node];
                    while way[way.len() - 1] != start {
                        way.push(came_from[way[way.len() - 1]]);
                    }
                    way.reverse();
                    return Some(spelled(&way, edges));
                }
                if !came_from.contains_key(to) {
                    came_from.insert(to, node);
                    queue.push_back(to);
                }
            }
        }
    }
    None
}

fn spelled(way: &[&str], edges: &Edges) -> String {
    let mut text = way[0].to_owned();
    for step in way.windows(2) {
        let (file, line) = &edges[&(step[0].to_owned(), step[1].to_owned())];
        let _ = write!(text, " → {} ({file}:{line})", step[1]);
    }
    text
}

/// Every source file below `src` that is not for tests alone, by its path from there.
fn sources(src: &Path) -> BTreeMap<String, Source> {
    let mut files = BTreeMap::new();
    let mut for_tests = BTreeSet::new();
    for path in files_below(src) {
        let file = path
            .strip_prefix(src)
            .unwrap_or(&path)
            .to_string_lossy()
            .into_owned();
        let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{file}: {error}"));
        let module = module_of(&file);
        let source = read(&text, &module).unwrap_or_else(|error| panic!("{file}: {error}"));
        for name in &source.test_modules {
            for_tests.insert([&module[..], std::slice::from_ref(name)].concat().join("/"));
        }
        files.insert(file, source);
    }
    files.retain(|file, _| {
        let is_of = |module: &String| {
            file.strip_prefix(&**module)
                .is_some_and(|rest| rest.starts_with(['.', '/']))
        };
        !for_tests.iter().any(is_of)
    });
    files
}

fn files_below(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{folder:?}: {error}"));
    let paths = entries.map(|entry| entry.expect("the folder can be read").path());
    paths
        .flat_map(|path| {
            if path.is_dir() {
                files_below(&path)
            } else if path.extension().is_some_and(|ending| ending == "rs") {
                vec![path]
            } else {
                Vec::new()
            }
        })
        .collect()
}

/// The module that a file is: `["wire", "h1"]` for `wire/h1.rs` and for `wire/h1/mod.rs`.
fn module_of(file: &str) -> Vec<String> {
    let path = file.trim_end_matches(".rs");
    let mut module: Vec<String> = path.split('/').map(str::to_owned).collect();
    if module.last().is_some_and(|last| last == "mod") || ["lib", "main"].contains(&path) {
        module.pop();
    }
    module
}

/// Reads the text of the module at `module`.
fn read(text: &str, module: &[String]) -> Result<Source, String> {
    let tokens: TokenStream = text.parse().map_err(|error| format!("{error}"))?;
    let mut source = Source::default();
    collect(tokens, module, &mut source);
    Ok(source)
}

/// Collects what is imported by the tokens of `module`.
fn collect(tokens: TokenStream, module: &[String], source: &mut Source) {
    let tokens: Vec<TokenTree> = tokens.into_iter().collect();
    let mut at = 0;
    while at < tokens.len() {
        match &tokens[at] {
            TokenTree::Punct(punct)
                if punct.as_char() == '#' && is_for_tests(tokens.get(at + 1)) =>
            {
                at = skip_item(&tokens, at + 2, source);
                continue;
            }
            // `pub(in crate::x)` says who may import, and imports nothing.
            TokenTree::Ident(word) if word == "pub" => {
                let parenthesis = matches!(tokens.get(at + 1), Some(TokenTree::Group(group))
                    if group.delimiter() == Delimiter::Parenthesis);
                at += usize::from(parenthesis);
            }
            TokenTree::Ident(word) if word == "mod" => {
                if let (Some(TokenTree::Ident(name)), Some(TokenTree::Group(body))) =
                    (tokens.get(at + 1), tokens.get(at + 2))
                {
                    let inner = [module, &[name.to_string()]].concat();
                    collect(body.stream(), &inner, source);
                    at += 3;
                    continue;
                }
            }
            TokenTree::Ident(word)
                if (word == "crate" || word == "super") && is_path(&tokens, at + 1) =>
            {
                let start = if word == "crate" {
                    &[]
                } else {
                    &module[..module.len().saturating_sub(1)]
                };
                let line = word.span().start().line;
                at = follow(&tokens, at + 3, start.to_vec(), line, source);
                continue;
            }
            TokenTree::Group(group) => collect(group.stream(), module, source),
            _ => {}
        }
        at += 1;
    }
}

/// Follows a path from behind its `::`, through `{…}`, and notes where it leads. Returns the place
/// behind it.
fn follow(
    tokens: &[TokenTree],
    at: usize,
    start: Vec<String>,
    line: usize,
    source: &mut Source,
) -> usize {
    let mut path = start;
    let mut at = at;
    loop {
        match tokens.get(at) {
            Some(TokenTree::Ident(name)) if name == "super" => {
                path.pop();
                at += 1;
            }
            Some(TokenTree::Ident(name)) => {
                path.push(name.to_string());
                at += 1;
            }
            Some(TokenTree::Group(group)) if group.delimiter() == Delimiter::Brace => {
                branches(group, &path, source);
                return at + 1;
            }
            // `*`, or `<` of generic arguments.
            _ => break,
        }
        if !is_path(tokens, at) {
            break;
        }
        at += 2;
    }
    source.imports.push(Import { line, path });
    at
}

/// Each path of `{a, b::c, d::{…}}` behind `path`.
fn branches(group: &Group, path: &[String], source: &mut Source) {
    let tokens: Vec<TokenTree> = group.stream().into_iter().collect();
    let mut at = 0;
    while at < tokens.len() {
        let line = tokens[at].span().start().line;
        if matches!(&tokens[at], TokenTree::Ident(name) if name == "self") {
            let path = path.to_vec();
            source.imports.push(Import { line, path });
        } else {
            at = follow(&tokens, at, path.to_vec(), line, source);
        }
        // To behind the next comma: past `as name`.
        let is_comma =
            |token: &TokenTree| matches!(token, TokenTree::Punct(punct) if punct.as_char() == ',');
        at += tokens[at.min(tokens.len())..]
            .iter()
            .take_while(|token| !is_comma(token))
            .count()
            + 1;
    }
}

/// `::` at this place.
fn is_path(tokens: &[TokenTree], at: usize) -> bool {
    let is_colon = |token: Option<&TokenTree>| matches!(token, Some(TokenTree::Punct(punct)) if punct.as_char() == ':');
    is_colon(tokens.get(at)) && is_colon(tokens.get(at + 1))
}

/// `[cfg(test)]`, or a `cfg` with `test` among what all has to hold.
fn is_for_tests(attribute: Option<&TokenTree>) -> bool {
    let Some(TokenTree::Group(group)) = attribute else {
        return false;
    };
    let text = group.stream().to_string().replace(' ', "");
    text == "cfg(test)" || text.starts_with("cfg(all(test,")
}

/// The place behind the item at `at`, further attributes included.
fn skip_item(tokens: &[TokenTree], at: usize, source: &mut Source) -> usize {
    let mut at = at;
    let mut module = None;
    while let Some(token) = tokens.get(at) {
        at += 1;
        match token {
            TokenTree::Ident(word) if word == "mod" => {
                module = tokens.get(at).map(ToString::to_string);
            }
            TokenTree::Punct(punct) if punct.as_char() == ';' => {
                source.test_modules.extend(module);
                break;
            }
            TokenTree::Group(group) if group.delimiter() == Delimiter::Brace => break,
            _ => {}
        }
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A crate of these files has these broken rules; `floors` are from the top down.
    fn broken(files: &[(&str, &str)]) -> Vec<String> {
        let folder = tempfile::tempdir().expect("a folder can be made");
        for (file, text) in files {
            let path = folder.path().join(file);
            let parent = path.parent().expect("it is in the folder");
            fs::create_dir_all(parent).expect("it can be made");
            fs::write(path, text).expect("it can be written");
        }
        let owned = |rooms: &&[&str]| rooms.iter().map(|&room| room.to_owned()).collect();
        let floors: Vec<Vec<String>> = FLOORS.iter().map(owned).collect();
        broken_rules(folder.path(), "src", &floors)
    }

    /// A crate of these files breaks these rules and no others.
    #[track_caller]
    fn check(files: &[(&str, &str)], want: &[&str]) {
        let got = broken(files);
        assert_eq!(got.len(), want.len(), "{got:#?}");
        for (got, want) in got.iter().zip(want) {
            assert!(got.contains(want), "{got}\nhas not: {want}");
        }
    }

    const FLOORS: &[&[&str]] = &[&["lib.rs"], &["upper", "beside.rs"], &["lower"]];
    const LIB: (&str, &str) = ("lib.rs", "mod upper; mod lower; mod beside;");
    const BESIDE: (&str, &str) = ("beside.rs", "");

    #[test]
    fn an_import_that_goes_down_is_kept() {
        let upper = (
            "upper/mod.rs",
            "use crate::lower::Thing; fn f() { crate::lower::g(); }",
        );
        check(&[LIB, BESIDE, upper, ("lower/mod.rs", "")], &[]);
    }

    #[test]
    fn an_import_that_goes_up_is_named_with_file_line_and_rule() {
        let upper = ("upper/mod.rs", "");
        for (text, want) in [
            (
                "\nuse crate::upper::Thing;",
                "src/lower/mod.rs:2: imports crate::upper::Thing, and `upper` is above",
            ),
            (
                "\n\nuse crate::{a, upper::{self, b}};",
                "src/lower/mod.rs:3: imports crate::upper",
            ),
            (
                "fn f() { if true { crate::upper::g(); } }",
                "crate::upper::g",
            ),
            ("use super::upper::Thing;", "crate::upper::Thing"),
            (
                "fn f() { format!(\"{}\", crate::upper::G); }",
                "crate::upper::G",
            ),
            ("use crate::function_of_lib;", "`lib.rs` is above"),
        ] {
            let got = broken(&[LIB, BESIDE, upper, ("lower/mod.rs", text)]);
            assert!(
                got.iter().any(|line| line.contains(want)),
                "{text}: {got:#?}"
            );
        }
    }

    #[test]
    fn rooms_of_one_floor_do_not_import_from_each_other() {
        let beside = ("beside.rs", "use crate::upper::Thing;");
        let want = "is on the floor of `beside.rs`";
        check(
            &[LIB, beside, ("upper/mod.rs", ""), ("lower/mod.rs", "")],
            &[want],
        );
    }

    #[test]
    fn code_for_tests_is_free() {
        let lower = "#[cfg(test)] mod tests { use crate::upper::Thing; }\n#[cfg(test)] mod more;\n\
                     #[cfg(test)] #[expect(x)] fn f() { crate::upper::g() }\npub(in crate::upper) fn g() {}";
        let more = ("lower/more.rs", "use crate::upper::Thing;");
        check(
            &[
                LIB,
                BESIDE,
                ("upper/mod.rs", ""),
                ("lower/mod.rs", lower),
                more,
            ],
            &[],
        );
    }

    #[test]
    fn a_circle_inside_a_room_is_spelled_out() {
        let files = [
            ("lower/mod.rs", "mod a; mod b; mod c;"),
            ("lower/a.rs", "use super::b::B;"),
            ("lower/b.rs", "use super::c::C;"),
            ("lower/c/mod.rs", "use crate::lower::a::A;"),
        ];
        let want =
            "src/lower: files import from each other in a circle: a → b (src/lower/a.rs:1) → c";
        check(
            &[&[LIB, BESIDE, ("upper/mod.rs", "")], &files[..]].concat(),
            &[want],
        );
    }

    #[test]
    fn every_room_is_listed_and_every_listed_room_is_there() {
        let files = [LIB, BESIDE, ("lower/mod.rs", ""), ("new.rs", "")];
        let want = ["`upper` is listed", "src/new.rs: no floor"];
        check(&files, &want);
    }

    #[test]
    fn floors_are_read_from_the_table_below_the_mark() {
        let text = "x\n<!-- rooms: proxy/src -->\n\n| room | what |\n|---|---|\n| `main.rs`, `lib.rs` | a |\n\
                    | `wire/` (`h1/`) | b |\n\n| `other/` | c |\n";
        let got = floors(text, "proxy/src");
        assert_eq!(got, [vec!["main.rs", "lib.rs"], vec!["wire", "h1"]]);
    }
}
