//! Reads settings from TOML. An error of the parser quotes the source line, which may hold a
//! password, so no such text is passed on.

use std::ops::Range;

use terrace_core::{Error, Result};
use toml::de::{self, DeTable};

use super::Config;

impl Config {
    /// Reads the settings of a stack from TOML. A text with several stacks by name is an error:
    /// [`Config::from_toml_named`] reads one of them.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](terrace_core::ErrorKind::Config) with the number of the line: for text that is
    /// not TOML, for unknown and missing fields, and for values of another type. It shows no value.
    pub fn from_toml(text: &str) -> Result<Self> {
        Self::from_toml_named(text, None)
    }
}

/// The error of a text: its line, the table, the field, and what was expected there.
pub(super) fn config_error(text: &str, error: &de::Error) -> Error {
    let message = error.message();
    let Place { line, mut path } = Place::of(text, error.span().unwrap_or_default());
    // A field that is missing is reported at its table.
    let field = if message.starts_with("missing field ") { None } else { path.pop() };
    let table = if path.is_empty() { String::new() } else { format!(", in [{}]", path.join(".")) };
    Error::config(format!("line {line} of the configuration{table}: {}", problem(message, field.as_deref())))
}

/// What is wrong, in the parser's words where these name our fields and types, and no value that was given.
fn problem(message: &str, field: Option<&str>) -> String {
    let field = field.map_or_else(|| "a value".to_owned(), |field| format!("`{field}`"));
    if message.starts_with("unknown field ") {
        let (word, expected) = message.split_once(", expected ").unwrap_or((message, ""));
        let meant = meant(word.trim_start_matches("unknown field ").trim_matches('`'), expected);
        return meant.map_or_else(|| message.to_owned(), |meant| format!("{word}, did you mean `{meant}`?"));
    }
    if ["missing field `", "duplicate field `"].iter().any(|start| message.starts_with(start)) {
        return message.to_owned();
    }
    // The value itself may hold the text `, expected `.
    let expected = message.rsplit_once(", expected ").map(|(_, expected)| expected);
    match expected {
        Some(expected) if message.starts_with("unknown variant ") => {
            format!("{field} has an unknown value, expected is {expected}")
        }
        Some(expected)
            if ["invalid type: ", "invalid value: "].iter().any(|start| message.starts_with(start)) =>
        {
            format!("{field} is of another type, expected is {}", in_words(expected))
        }
        _ => "the text is not valid TOML; strings stand in quotes".to_owned(),
    }
}

/// The types of Rust in the words of TOML.
fn in_words(expected: &str) -> &str {
    match expected {
        "u16" | "u64" | "usize" => "a whole number",
        "f64" => "a number",
        "path string" => "a string",
        expected if expected.starts_with("struct ") => "a table",
        expected => expected,
    }
}

/// The name in backticks that is most like `word`, if one is.
fn meant<'a>(word: &str, expected: &'a str) -> Option<&'a str> {
    let names = expected.split('`').skip(1).step_by(2);
    let likeness = |name: &str| strsim::jaro_winkler(word, name);
    let best = names.max_by(|a, b| likeness(a).total_cmp(&likeness(b)))?;
    (likeness(best) > 0.75).then_some(best)
}

/// Where in the text an error is.
struct Place {
    line: usize,
    /// The keys that lead to the place, from the top.
    path: Vec<String>,
}

impl Place {
    fn of(text: &str, span: Range<usize>) -> Self {
        let line = text.get(..span.start).map_or(0, |before| before.matches('\n').count()) + 1;
        let root = DeTable::parse(text).ok();
        Self { line, path: root.and_then(|root| path_to(root.get_ref(), &span)).unwrap_or_default() }
    }
}

/// The keys that lead to the key or value at `span`.
fn path_to(table: &DeTable<'_>, span: &Range<usize>) -> Option<Vec<String>> {
    table.iter().find_map(|(key, value)| {
        let deeper = value.get_ref().as_table().and_then(|table| path_to(table, span));
        let here = key.span() == *span || value.span() == *span;
        let mut path = deeper.or_else(|| here.then(Vec::new))?;
        path.insert(0, key.get_ref().to_string());
        Some(path)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(text: &str) -> String {
        Config::from_toml(text).unwrap_err().to_string()
    }

    #[test]
    fn errors_name_the_line_and_the_field() {
        assert!(
            error("ttl_seconds = 1\nttl = 5\n")
                .starts_with("line 2 of the configuration: unknown field `ttl`")
        );
        assert!(error("[redis]\nurls = 'x'").contains("unknown field `urls`"));
        assert!(error("[postgres]\nurl = ''\nrole = 'boss'").contains("`both`"));
    }

    #[test]
    fn errors_name_the_table_the_word_and_what_was_meant() {
        for (text, expected) in [
            (
                "[redis]\nurls = 'x'",
                "line 2 of the configuration, in [redis]: unknown field `urls`, did you mean `url`?",
            ),
            (
                "[memory]\nentrys = 5",
                "line 2 of the configuration, in [memory]: unknown field `entrys`, did you mean `entries`?",
            ),
            ("[memory]\nmax_entries = 5", "did you mean `entries`?"),
            ("ttl = 5", "line 1 of the configuration: unknown field `ttl`, did you mean `ttl_seconds`?"),
            ("[memroy]\nentries = 5", "unknown field `memroy`, did you mean `memory`?"),
            ("memory = { entris = 5 }", "in [memory]: unknown field `entris`, did you mean `entries`?"),
            ("redis.pasword = 'x'", "in [redis]: unknown field `pasword`, did you mean `password`?"),
            ("[stacks.shop.redis]\nurls = 'x'", "in [stacks.shop.redis]: unknown field `urls`"),
            ("[memory]\nfoo = 5", "in [memory]: unknown field `foo`, expected `entries` or `ttl_seconds`"),
            ("[sqlite]\nrole = 'tier'", "in [sqlite]: missing field `path`"),
            (
                "\n[memory]\nentries = 'many'",
                "line 3 of the configuration, in [memory]: `entries` is of another type, expected is a whole number",
            ),
            (
                "[memory]\nentries = -1",
                "in [memory]: `entries` is of another type, expected is a whole number",
            ),
            (
                "ttl_seconds = '60'",
                "line 1 of the configuration: `ttl_seconds` is of another type, expected is a whole number",
            ),
            ("memory = true", "`memory` is of another type, expected is a table"),
            (
                "[redis]\nallow_plaintext = 'yes'",
                "in [redis]: `allow_plaintext` is of another type, expected is a boolean",
            ),
            ("level = 'bound'", "`level` has an unknown value, expected is one of `ttl`, `fenced`"),
            (
                "[sqlite]\npath = 'x'\nrole = 'boss'",
                "in [sqlite]: `role` has an unknown value, expected is one of `both`",
            ),
            (
                "[redis]\nurl = localhost",
                "line 2 of the configuration: the text is not valid TOML; strings stand in quotes",
            ),
        ] {
            let error = error(text);
            assert!(error.contains(expected), "{text}: {error}");
        }
    }

    #[test]
    fn tables_may_be_empty_where_every_field_has_a_default() {
        let memory = |text: &str| Config::from_toml(text).unwrap().memory.unwrap();
        assert_eq!(memory("[memory]").entries, 10_000);
        assert_eq!(
            (memory("[memory]\nttl_seconds = 3").entries, memory("memory = {}").ttl_seconds),
            (10_000, None)
        );
        for table in ["[redis]", "[postgres]"] {
            Config::from_toml(table).unwrap();
        }
    }

    #[test]
    fn no_error_shows_a_value() {
        for text in [
            "redis = 'redis://:secret@localhost'",
            "[redis]\nurl = redis://:secret@localhost",
            "[redis]\nurl = \"redis://:secret@localhost",
            "[redis]\nurl = ['redis://:secret@localhost']",
            "[redis]\nurl = 'x'\nallow_plaintext = 'secret'",
            "[memory]\nentries = \"secret\\\", expected \\\"x\"",
            "[postgres]\nurl = ''\nrole = 'secret'",
            "[postgres]\nurl = ''\nurl = 'secret'",
            "[redis]\npassword = ['secret']",
            "[redis]\nurl = 'x'\npassword_file = { secret = 'secret' }",
            "[postgres]\nport = 'secret'",
            "[postgres]\nhost = 'x'\npassword = secret",
            "secret",
        ] {
            let error = Config::from_toml(text).unwrap_err();
            assert!(!format!("{error} {error:?}").contains("secret"), "{error}");
        }
    }
}
