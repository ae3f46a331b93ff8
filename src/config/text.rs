//! Reads settings from TOML. An error of the parser quotes the source line, which may hold a
//! password, so no such text is passed on.

use terrace_core::{Error, Result};
use toml::de;

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

pub(super) fn config_error(text: &str, error: &de::Error) -> Error {
    let before = error.span().and_then(|span| text.get(..span.start));
    let line = before.map_or(1, |before| before.matches('\n').count() + 1);
    Error::config(format!("line {line} of the configuration: {}", without_values(error.message())))
}

/// The parts of the parser's message that name our fields and types, and no value that was given.
fn without_values(message: &str) -> String {
    let names = ["unknown field `", "missing field `", "duplicate field `"];
    if names.iter().any(|start| message.starts_with(start)) {
        return message.to_owned();
    }
    let ours = ["invalid type: ", "invalid value: ", "unknown variant "].iter();
    match (ours.copied().find(|start| message.starts_with(start)), message.rsplit_once(", expected ")) {
        (Some(start), Some((_, expected))) => {
            format!("{}, expected {expected}", start.trim_end_matches([':', ' ']))
        }
        _ => "the text is not valid TOML".to_owned(),
    }
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
        assert!(error("[sqlite]\nrole = 'tier'").contains("missing field `path`"));
        assert!(
            error("\n[memory]\nentries = 'many'")
                .contains("line 3 of the configuration: invalid type, expected")
        );
        assert!(error("[postgres]\nurl = ''\nrole = 'boss'").contains("`both`"));
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
