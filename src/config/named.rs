//! Several stacks by name in one text, of which a variable chooses one.

use std::{collections::BTreeMap, env, ffi::OsString, fs::File, io::Read, path::Path};

use serde::{Deserialize, de::IgnoredAny};
use terrace_core::{Error, Result};

use super::{Config, Stack, env::Vars, text::config_error};

/// The variable that chooses a stack.
const VARIABLE: &str = "CACHE_STACK";

/// The longest configuration file.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// A text with stacks by name has no settings beside them.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NamedStacks {
    stacks: BTreeMap<String, Config>,
}

/// What says whether a text has stacks by name.
#[derive(Deserialize)]
struct Names {
    stacks: Option<IgnoredAny>,
}

impl Config {
    /// Reads from TOML the settings of the stack `name`: of the table `[stacks.name]` and the tables below.
    /// Without a name, the text has the settings of one stack, as for [`Config::from_toml`].
    ///
    /// All stacks of the text are checked, so that a typing error in the stack of production is found in
    /// development.
    ///
    /// # Errors
    /// As [`Config::from_toml`]. [`ErrorKind::Config`](terrace_core::ErrorKind::Config) with the names of the
    /// stacks if there is none of this name, or if the text has several and no name is given.
    ///
    /// ```
    /// use terrace::config::Config;
    ///
    /// let text = "
    /// [stacks.development.memory]
    /// entries = 100
    ///
    /// [stacks.production]
    /// ttl_seconds = 60
    /// redis.url = 'rediss://cache.example'
    /// ";
    /// let config = Config::from_toml_named(text, Some("production"))?;
    /// assert_eq!(config.ttl_seconds, Some(60));
    /// let error = Config::from_toml_named(text, Some("staging")).unwrap_err();
    /// assert!(error.to_string().contains("development, production"));
    /// # Ok::<(), terrace::Error>(())
    /// ```
    pub fn from_toml_named(text: &str, name: Option<&str>) -> Result<Self> {
        let names: Names = toml::from_str(text).map_err(|error| config_error(text, &error))?;
        match (names.stacks, name) {
            (None, None) => toml::from_str(text).map_err(|error| config_error(text, &error)),
            (None, Some(_)) => Err(Error::config(
                "a stack is chosen by its name, and the configuration has one stack without a name",
            )),
            (Some(_), name) => {
                let NamedStacks { mut stacks } =
                    toml::from_str(text).map_err(|error| config_error(text, &error))?;
                let list = stacks.keys().cloned().collect::<Vec<_>>().join(", ");
                let chosen = name.map(|name| stacks.remove(name).ok_or("no stack has the chosen name"));
                chosen.unwrap_or(Err("no stack is chosen")).map_err(|why| {
                    Error::config(format!("{why}; the configuration has these stacks: {list}"))
                })
            }
        }
    }

    /// Reads the settings of a TOML file. If it has stacks by name, the variable `CACHE_STACK` of the process
    /// chooses one. The other variables do not count: [`Config::with_env`] reads them.
    ///
    /// # Errors
    /// As [`Config::from_toml_named`]. [`ErrorKind::Config`](terrace_core::ErrorKind::Config) for a file
    /// that cannot be read, or is longer than 1 MiB.
    pub fn from_file(path: impl AsRef<Path>) -> Result<Self> {
        Self::from_file_with_vars(path.as_ref(), |name| env::var_os(name))
    }

    fn from_file_with_vars(path: &Path, var: impl Fn(&str) -> Option<OsString>) -> Result<Self> {
        let text = read(path)?;
        let name = Vars(var).text(VARIABLE)?;
        Self::from_toml_named(&text, name.as_deref()).map_err(|error| {
            Error::config(format!("{} ({VARIABLE} chooses a stack): {error}", path.display()))
        })
    }
}

impl Stack {
    /// The stack of a TOML file, changed by the environment of the process. If the file has stacks by name,
    /// the variable `CACHE_STACK` chooses one.
    ///
    /// # Errors
    /// As [`Config::from_file`], [`Config::with_env`] and [`Stack::new`].
    pub fn from_file(path: impl AsRef<Path>) -> Result<Self> {
        Self::new(&Config::from_file(path)?.with_env()?)
    }
}

fn read(path: &Path) -> Result<String> {
    let unusable = |why: &dyn std::fmt::Display| {
        Error::config(format!("the configuration file {} {why}", path.display()))
    };
    let mut text = String::new();
    File::open(path)
        .and_then(|file| file.take(MAX_FILE_BYTES + 1).read_to_string(&mut text))
        .map_err(|error| unusable(&format_args!("cannot be read: {}", error.kind())))?;
    if text.len() as u64 > MAX_FILE_BYTES {
        return Err(unusable(&"is longer than 1 MiB"));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use terrace_core::ErrorKind;

    use super::*;

    const TEXT: &str = "
        [stacks.development]
        ttl_seconds = 1
        [stacks.development.memory]
        entries = 1
        [stacks.production]
        ttl_seconds = 2
        [stacks.production.redis]
        url = 'redis://:hush@cache'
    ";

    fn refused(text: &str, name: Option<&str>) -> String {
        let error = Config::from_toml_named(text, name).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        let shown = format!("{error} {error:?}");
        assert!(!shown.contains("hush"), "{shown}");
        shown
    }

    #[test]
    fn a_stack_is_chosen_by_its_name() {
        for (name, ttl_seconds) in [("development", 1), ("production", 2)] {
            let config = Config::from_toml_named(TEXT, Some(name)).unwrap();
            assert_eq!(config.ttl_seconds, Some(ttl_seconds));
        }
    }

    #[test]
    fn an_unknown_name_and_none_list_the_names() {
        let list = "development, production";
        for (name, why) in [(Some("hush"), "the chosen name"), (None, "no stack is chosen")] {
            let shown = refused(TEXT, name);
            assert!(shown.contains(list) && shown.contains(why), "{shown}");
        }
        assert!(Config::from_toml(TEXT).unwrap_err().to_string().contains(list));
    }

    #[test]
    fn a_text_with_one_stack_without_a_name_stays_valid() {
        let text = "ttl_seconds = 7\n[memory]\nentries = 1";
        assert_eq!(Config::from_toml_named(text, None).unwrap(), Config::from_toml(text).unwrap());
        assert!(refused(text, Some("hush")).contains("without a name"));
    }

    #[test]
    fn a_mistake_in_any_of_the_stacks_is_found() {
        let typo = TEXT.replace("url =", "urls =");
        let shown = refused(&typo, Some("development"));
        assert!(shown.contains("line 9") && shown.contains("`urls`"), "{shown}");
        assert!(refused(&format!("ttl_seconds = 1\n{TEXT}"), Some("development")).contains("`ttl_seconds`"));
        for text in ["stacks = 'hush'", "stacks = { a = 'hush' }", "[stacks.hush", "[[stacks]]\nurl = 'hush'"]
        {
            refused(text, Some("a"));
        }
        assert!(refused("[stacks]", Some("a")).contains("the chosen name"));
    }

    #[test]
    fn a_variable_chooses_among_the_stacks_of_a_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("cache.toml");
        std::fs::write(&path, TEXT).unwrap();
        let of = |name: &'static str| {
            Config::from_file_with_vars(&path, move |variable| (variable == VARIABLE).then(|| name.into()))
        };
        assert_eq!(of(" production ").unwrap().ttl_seconds, Some(2));
        for name in ["staging", ""] {
            let error = of(name).unwrap_err().to_string();
            assert!(error.contains(VARIABLE) && error.contains("development, production"), "{error}");
            assert!(error.contains("cache.toml"), "{error}");
        }
    }

    #[test]
    fn a_file_that_cannot_be_read_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("cache.toml");
        let refused = || Config::from_file(&path).unwrap_err().to_string();
        assert!(refused().contains("cache.toml cannot be read: entity not found"), "{}", refused());
        std::fs::write(&path, [0xff]).unwrap();
        assert!(refused().contains("cannot be read"), "{}", refused());
        std::fs::write(&path, " ".repeat(1 << 20 | 1)).unwrap();
        assert!(refused().contains("longer than 1 MiB"), "{}", refused());
    }
}
