//! What the texts name exists: tests, functions and files move, and sentences about them do not.
//!
//! ARCHITECTURE.md shows the routes of a read and of a write, each as a list of functions.
//! `docs/routes.md` lists every function of two reads, and says by that how often a reader of the code
//! has to change the file.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

/// The folder of the workspace.
const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");

/// All files below a folder of the project, without build products and hidden files.
fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if name.starts_with('.') || name == "target" {
            continue;
        }
        if path.is_dir() { files(&path, found) } else { found.push(path) }
    }
}

fn has_ending(path: &Path, endings: &[&str]) -> bool {
    path.extension().is_some_and(|ending| endings.iter().any(|known| ending == *known))
}

/// The texts between single backticks, outside of blocks of code.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    let prose = text.split("```").step_by(2);
    prose.flat_map(str::lines).flat_map(|line| line.split('`').skip(1).step_by(2))
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
}

/// Whether a quote is a name with an underscore in it. Quotes that begin with one are endings of names.
fn is_name(quote: &str) -> bool {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    quote.contains('_') && !quote.starts_with('_') && quote.chars().all(plain)
}

#[test]
fn what_the_texts_name_is_there() {
    let root = Path::new(ROOT);
    let mut all = Vec::new();
    files(root, &mut all);
    let code = all.iter().filter(|path| has_ending(path, &["rs", "sql", "lua", "toml"]));
    let code: Vec<String> = code.map(|path| fs::read_to_string(path).unwrap()).collect();
    let known: BTreeSet<&str> = code.iter().flat_map(|text| words(text)).collect();
    let (mut names, mut missing) = (0, Vec::new());
    for text in all.iter().filter(|path| has_ending(path, &["md"])) {
        for quote in quoted(&fs::read_to_string(text).unwrap()) {
            let is_path =
                has_ending(Path::new(quote), &["rs", "md", "sql", "lua"]) && !quote.contains(['*', ' ']);
            let there = match (is_name(quote), is_path) {
                (true, _) => known.contains(quote),
                (_, true) => all.iter().any(|path| path.ends_with(quote)),
                _ => continue,
            };
            names += 1;
            if !there {
                missing.push(format!("{} in {}", quote, text.strip_prefix(root).unwrap().display()));
            }
        }
    }
    assert!(names > 200, "{names} are all that was found");
    assert!(missing.is_empty(), "not there: {missing:#?}");
}

/// The anchors of a document's headings, as web sites of repositories make them.
fn anchors(text: &str) -> BTreeSet<String> {
    let prose = text.split("```").step_by(2).flat_map(str::lines);
    let headings = prose.filter(|line| line.starts_with('#')).map(|line| line.trim_start_matches('#').trim());
    let kept = |c: &char| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_');
    headings
        .map(|heading| heading.to_lowercase().chars().filter(kept).collect::<String>().replace(' ', "-"))
        .collect()
}

#[test]
fn every_link_leads_to_a_file_and_a_heading() {
    let root = Path::new(ROOT);
    let mut all = vec![root.join("README.md"), root.join("CONTRIBUTING.md")];
    files(&root.join("docs"), &mut all);
    let (mut links, mut broken) = (0, Vec::new());
    for file in all.iter().filter(|path| has_ending(path, &["md"])) {
        let text = fs::read_to_string(file).unwrap();
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            if link.contains("://") || link.contains(' ') {
                continue;
            }
            links += 1;
            let (path, anchor) =
                link.split_once('#').map_or((link, None), |(path, anchor)| (path, Some(anchor)));
            let target = if path.is_empty() { file.clone() } else { file.parent().unwrap().join(path) };
            let has_anchor = || {
                let text = fs::read_to_string(&target).unwrap_or_default();
                anchor.is_none_or(|anchor| anchors(&text).contains(anchor))
            };
            if !target.exists() || !has_anchor() {
                broken.push(format!("{link} in {}", file.strip_prefix(root).unwrap().display()));
            }
        }
    }
    assert!(links > 60, "{links} are all that was found");
    assert!(broken.is_empty(), "{broken:#?}");
}

/// One line of a route: a file below `crates/core/src` or `crates`, and a function in it.
#[derive(Clone, Copy, Debug)]
struct Step<'a> {
    file: &'a str,
    function: &'a str,
}

impl<'a> Step<'a> {
    fn parse(line: &'a str) -> Option<Self> {
        let mut words = line.split_whitespace();
        let step = Self { file: words.next()?, function: words.next()? };
        words.next().is_none().then_some(step)
    }

    /// Why the step names nothing, if it does.
    fn error(&self) -> Option<String> {
        let Self { file, function } = *self;
        let root = Path::new(ROOT);
        let mut folders = ["crates/core/src", "crates"].iter();
        let Some(text) = folders.find_map(|folder| fs::read_to_string(root.join(folder).join(file)).ok())
        else {
            return Some(format!("there is no file {file}"));
        };
        let (owner, name) =
            function.rsplit_once("::").map_or((None, function), |(owner, name)| (Some(owner), name));
        let has_owner = owner.is_none_or(|owner| implements(&text, owner));
        (!defines(&text, name) || !has_owner).then(|| format!("{file} does not define {function}"))
    }
}

/// Whether the text has an `impl` of this type or trait, or the trait itself.
fn implements(text: &str, owner: &str) -> bool {
    let mut heads = text.lines().filter(|line| words(line).any(|word| word == "impl" || word == "trait"));
    heads.any(|head| !head.trim_start().starts_with("//") && words(head).any(|word| word == owner))
}

fn defines(text: &str, function: &str) -> bool {
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let start = format!("fn {function}");
    text.match_indices(&start).any(|(at, _)| {
        let (before, after) = (&text[..at], &text[at + start.len()..]);
        !before.ends_with(is_word) && !after.starts_with(is_word)
    })
}

/// The lines of the block of `file` with this info string.
fn block(file: &str, info: &str) -> Vec<String> {
    let text = fs::read_to_string(Path::new(ROOT).join(file)).unwrap();
    let found = lines_of_block(&text, info);
    assert!(!found.is_empty(), "{file} has no block ```{info} with lines in it");
    found
}

fn lines_of_block(text: &str, info: &str) -> Vec<String> {
    let start = format!("```{info}");
    let mut lines = text.lines().skip_while(|line| line.trim_end() != start).skip(1);
    let lines = lines.by_ref().take_while(|line| !line.starts_with("```"));
    lines.filter(|line| !line.trim().is_empty()).map(str::to_owned).collect()
}

/// How often the next step is in another file, and how often that file was entered before.
fn moves_and_returns(steps: &[Step<'_>]) -> (usize, usize) {
    let (mut entered, mut last) = (BTreeSet::new(), None);
    let (mut moves, mut returns) = (0, 0);
    for step in steps {
        let is_new = entered.insert(step.file);
        if last.is_some_and(|last| last != step.file) {
            moves += 1;
            returns += usize::from(!is_new);
        }
        last = Some(step.file);
    }
    (moves, returns)
}

fn no_errors(of: &str, steps: &[Step<'_>]) {
    let errors: Vec<String> = steps.iter().filter_map(Step::error).collect();
    assert!(errors.is_empty(), "{of}: {errors:#?}");
}

#[test]
fn each_route_is_a_short_list_of_functions_that_exist() {
    for info in ["text route:read", "text route:write"] {
        let lines = block("ARCHITECTURE.md", info);
        assert!(lines.len() <= 25, "{info} has {} lines, 25 are the most", lines.len());
        let steps: Vec<Step<'_>> = lines
            .iter()
            .map(|line| {
                let step = line.split_once(" -- ").filter(|(_, what)| !what.trim().is_empty());
                let step = step.and_then(|(step, _)| Step::parse(step));
                step.unwrap_or_else(|| panic!("{info}: a line is `file  function  -- what happens`: {line}"))
            })
            .collect();
        no_errors(info, &steps);
    }
}

#[test]
fn a_reader_of_a_redis_hit_and_of_a_cold_miss_changes_files_seldom() {
    for (info, most_moves, most_returns) in
        [("text moves:redis-hit", 60, 24), ("text moves:cold-miss", 108, 62)]
    {
        let lines = block("docs/routes.md", info);
        let steps = lines.iter().map(|line| {
            Step::parse(line).unwrap_or_else(|| panic!("{info}: a line is `file  function`: {line}"))
        });
        let steps: Vec<Step<'_>> = steps.collect();
        no_errors(info, &steps);
        let (moves, returns) = moves_and_returns(&steps);
        println!("{info}: {moves} moves, {returns} returns");
        assert!(
            moves <= most_moves && returns <= most_returns,
            "{info}: {moves} moves and {returns} returns, at most {most_moves} and {most_returns} are allowed"
        );
    }
}

#[test]
fn moves_and_returns_are_counted_in_the_order_of_execution() {
    let steps = |files: &'static str| -> Vec<Step<'static>> {
        files.split(' ').map(|file| Step { file, function: "f" }).collect()
    };
    assert_eq!(moves_and_returns(&steps("a")), (0, 0));
    assert_eq!(moves_and_returns(&steps("a a b b")), (1, 0));
    assert_eq!(moves_and_returns(&steps("a b a b c a")), (5, 3));
}

#[test]
fn blocks_and_definitions_are_found() {
    let text = "```text\na  b\n```\n```text route:read\nc  d\n\ne  f\n```\ng  h\n";
    assert_eq!(lines_of_block(text, "text route:read"), ["c  d", "e  f"]);
    assert_eq!(lines_of_block(text, "text"), ["a  b"]);
    assert!(lines_of_block(text, "text route").is_empty());
    assert!(defines("pub async fn get<Q>(&self)", "get") && defines("fn get_many()", "get_many"));
    assert!(!defines("fn get_many()", "get") && !defines("self.get()", "get"));
    let missing = |file, function| Step { file, function }.error();
    assert_eq!(missing("relay/mod.rs", "Relay::run"), None);
    assert!(missing("relay/mod.rs", "Another::run").is_some() && missing("relay/mod.rs", "walk").is_some());
    assert!(missing("relay/missing.rs", "run").is_some());
}
