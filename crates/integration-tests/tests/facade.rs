//! The facade names each item once: a short list in the root for applications, and modules for
//! authors of policies, tiers and near tiers. Counted in the text of `src/lib.rs`, so that items
//! behind features count too.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

/// The most names in the root. Someone who opens its documentation reads all of them.
const MAX_ROOT_NAMES: usize = 55;

/// The names that the facade gives, by module; the root is the module without a name.
type Names = BTreeMap<String, Vec<String>>;

/// The text without comments, and with one space in place of any white space.
fn plain(source: &str) -> String {
    let lines = source.lines().map(|line| line.split("//").next().unwrap_or_default());
    lines.flat_map(str::split_whitespace).collect::<Vec<_>>().join(" ")
}

/// The names of one `pub use`: what stands after `as`, or the last part of the path.
fn used(list: &str) -> impl Iterator<Item = String> {
    let items = match list.split_once('{') {
        Some((_, items)) => items.trim_end().trim_end_matches('}'),
        None => list,
    };
    assert!(!items.contains('{'), "write each list of the facade without lists inside: {list}");
    let names = items.split(',').map(str::trim).filter(|item| !item.is_empty());
    names.map(|item| {
        let name = item.rsplit(" as ").next().unwrap();
        name.rsplit("::").next().unwrap().to_owned()
    })
}

/// All names that `source`, the text of a facade, gives.
fn names(source: &str) -> Names {
    let (text, mut names) = (plain(source), Names::new());
    let (mut rest, mut module, mut depth) = (text.as_str(), String::new(), 0);
    while let Some(at) = rest.find("pub ") {
        depth += rest[..at].matches('{').count();
        depth -= rest[..at].matches('}').count();
        if depth == 0 {
            module.clear();
        }
        let (kind, item) = rest[at + "pub ".len()..].split_once(' ').unwrap();
        let ends_at = |ends: &[char]| item.find(ends).unwrap_or(item.len());
        let end = match kind {
            "use" => ends_at(&[';']),
            "mod" => ends_at(&['{', ';']),
            _ => ends_at(&['<', '(', ' ', '=', ';', ':']),
        };
        let (item, after) = item.split_at(end);
        rest = after;
        match kind {
            "use" => names.entry(module.clone()).or_default().extend(used(item)),
            "mod" if rest.starts_with('{') => {
                assert!(module.is_empty(), "the modules of the facade have no modules: {item}");
                item.trim().clone_into(&mut module);
            }
            "mod" => {}
            _ => names.entry(module.clone()).or_default().push(item.to_owned()),
        }
    }
    names
}

fn facade() -> Names {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../src/lib.rs");
    names(&fs::read_to_string(path).unwrap())
}

#[test]
fn every_form_of_an_item_is_counted() {
    let source = "
        //! pub use comments::Nothing;
        #[cfg(feature = \"a\")]
        pub mod elsewhere;
        pub use one::{
            First, Second, // pub use a::Comment;
            third as Third,
        };
        #[cfg(feature = \"b\")]
        pub use two::deep::Fourth;
        /// For authors.
        pub mod inner {
            pub use three::{self, Fifth};
            pub use four::*;
        }
        struct Hidden;
        pub mod empty {}
        pub type Sixth<K> = one::Other<K>;
        pub fn seventh() {}
    ";
    let found = names(source);
    let expected = ["First", "Second", "Third", "Fourth", "Sixth", "seventh"];
    assert_eq!(found[""], expected);
    assert_eq!(found["inner"], ["self", "Fifth", "*"]);
}

#[test]
fn the_root_names_few_items() {
    let root = &facade()[""];
    let count = root.len();
    assert!(
        count <= MAX_ROOT_NAMES,
        "the root of the facade has {count} names, {MAX_ROOT_NAMES} are the most"
    );
    assert!(root.iter().any(|name| name == "Cache") && count > 40, "{count} names were found: {root:?}");
}

#[test]
fn no_item_has_two_places() {
    let (mut seen, mut twice) = (BTreeSet::new(), Vec::new());
    for (module, names) in facade() {
        let place = if module.is_empty() { "the root".to_owned() } else { format!("`{module}`") };
        for name in names {
            if !seen.insert(name.clone()) {
                twice.push(format!("{name}, again in {place}"));
            }
        }
    }
    assert!(twice.is_empty(), "named twice: {twice:#?}");
}

#[test]
fn no_list_is_a_glob() {
    let facade = facade();
    let modules: Vec<&str> = facade.keys().map(String::as_str).collect();
    let expected = ["", "key", "near", "policy", "recorder", "server", "telemetry", "tier", "write_behind"];
    assert_eq!(modules, expected, "the modules of the facade");
    for (module, names) in &facade {
        assert!(!names.iter().any(|name| name.contains('*')), "a glob in {module:?}");
    }
}
