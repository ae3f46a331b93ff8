//! Stacks as the user names them: in a TOML file, or in short by `--stack`.

use std::path::PathBuf;

use serde::Deserialize;
use terrace::config::Config;

use crate::failure::{Failure, Result, refuse};

/// The stacks to compare.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct StackOptions {
    /// A stack: tiers from near to far, as memory:1000+redis+postgres. Each tier may have a parameter:
    /// memory:ENTRIES, quick:ENTRIES, redis:URL, postgres:URL, sqlite:PATH. A server without a URL is started
    /// for the run. A name may stand before: small=memory:100. May be given several times
    #[arg(long = "stack", value_name = "STACK", help_heading = "Stacks")]
    pub(crate) stacks: Vec<String>,
    /// A TOML file with `[stacks.NAME]` tables, as `terrace::config` reads them; a url "private" starts a server.
    /// Each may have a table `bench` with near = "quick", records = true, codec = "json", compression = "none",
    /// write = "around"
    #[arg(long = "stacks", value_name = "FILE", help_heading = "Stacks")]
    pub(crate) file: Option<PathBuf>,
    /// How long values live, for stacks given by --stack
    #[arg(long, default_value_t = 86_400, value_name = "SECONDS", help_heading = "Stacks")]
    pub(crate) ttl: u64,
}

/// The engine of the near tier.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum NearEngine {
    /// moka.
    #[default]
    Memory,
    /// quick_cache.
    Quick,
}

/// How values are encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum CodecName {
    /// postcard.
    Postcard,
    /// JSON.
    Json,
}

/// How values are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum CompressionName {
    /// Not at all.
    None,
    /// LZ4 from 1 KiB on.
    Lz4,
}

/// What a put does with copies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum WriteName {
    /// Records and copies.
    Through,
    /// Records, and dropped copies.
    Around,
}

/// The settings of a stack that the configuration of an application does not have: its code has them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct CodeSettings {
    /// The engine of the near tier.
    pub(crate) near: NearEngine,
    /// Whether the database keeps records, and not copies.
    pub(crate) records: bool,
    /// The codec; postcard unless set.
    pub(crate) codec: Option<CodecName>,
    /// The compression; the library's default unless set.
    pub(crate) compression: Option<CompressionName>,
    /// The write policy of a stack with records.
    pub(crate) write: Option<WriteName>,
}

/// One stack.
#[derive(Clone, Debug)]
pub(crate) struct StackSpec {
    /// Its name in reports.
    pub(crate) name: String,
    /// The settings as an application has them. A URL may be `private`.
    table: toml::Table,
    /// The settings beside them.
    pub(crate) code: CodeSettings,
}

impl StackOptions {
    /// The stacks, those of the file first.
    ///
    /// # Errors
    /// No stack, two of one name, and settings that cannot work.
    pub(crate) fn specs(&self) -> Result<Vec<StackSpec>> {
        let mut specs = match &self.file {
            Some(file) => of_file(file)?,
            None => Vec::new(),
        };
        for text in &self.stacks {
            specs.push(StackSpec::of_text(text, self.ttl).map_err(|error| error.during("--stack"))?);
        }
        if specs.is_empty() {
            refuse!("give at least one stack, as --stack memory:1000+redis, or a file by --stacks");
        }
        for (place, spec) in specs.iter().enumerate() {
            if specs[..place].iter().any(|other| other.name == spec.name) {
                refuse!("two stacks have the name `{}`: give one as --stack NAME=TIERS", spec.name);
            }
        }
        Ok(specs)
    }
}

fn of_file(path: &std::path::Path) -> Result<Vec<StackSpec>> {
    let fault = |error: &dyn std::fmt::Display| Failure::new(format_args!("{}: {error}", path.display()));
    let text = std::fs::read_to_string(path).map_err(|error| fault(&error))?;
    let mut file: toml::Table = toml::from_str(&text).map_err(|error| fault(&error))?;
    let Some(toml::Value::Table(stacks)) = file.remove("stacks") else {
        return Err(fault(&"the file has no table `[stacks.NAME]`"));
    };
    if let Some(other) = file.keys().next() {
        return Err(fault(&format_args!("`{other}` stands outside of the tables `[stacks.NAME]`")));
    }
    let mut specs = Vec::new();
    for (name, table) in stacks {
        let toml::Value::Table(table) = table else {
            return Err(fault(&format_args!("`stacks.{name}` is no table")));
        };
        let spec = StackSpec::new(name.clone(), table);
        specs.push(spec.map_err(|error| fault(&error.during(format_args!("stacks.{name}"))))?);
    }
    Ok(specs)
}

impl StackSpec {
    fn new(name: String, mut table: toml::Table) -> Result<Self> {
        let code = match table.remove("bench") {
            Some(code) => code.try_into().map_err(Failure::new)?,
            None => CodeSettings::default(),
        };
        let spec = Self { name, table, code };
        spec.config(|_| Ok("redis://127.0.0.1:1".to_owned()))?;
        Ok(spec)
    }

    /// The stack of `[name=]tier[:parameter]+..`.
    fn of_text(text: &str, ttl: u64) -> Result<Self> {
        // A URL may hold `=`, so a name is only what stands before the first tier.
        let named = text.split_once('=').filter(|(name, _)| !name.contains([':', '+', '/']));
        let (name, tiers) = named.map_or((text.to_owned(), text), |(name, tiers)| (name.to_owned(), tiers));
        let mut table = toml::Table::new();
        table.insert("ttl_seconds".to_owned(), toml::Value::Integer(i64::try_from(ttl).unwrap_or(i64::MAX)));
        let mut code = CodeSettings::default();
        for tier in tiers.split('+') {
            let (kind, parameter) =
                tier.split_once(':').map_or((tier, None), |(kind, rest)| (kind, Some(rest)));
            let mut settings = toml::Table::new();
            let (kind, setting, value) = match kind {
                "memory" | "quick" => {
                    code.near = if kind == "quick" { NearEngine::Quick } else { NearEngine::Memory };
                    let entries = parameter.unwrap_or("10000").replace('_', "");
                    let entries = entries.parse().map_err(|error| {
                        Failure::new(format_args!("`{tier}`: {error}; it is {kind}:ENTRIES"))
                    })?;
                    ("memory", "entries", toml::Value::Integer(entries))
                }
                "redis" | "postgres" => (kind, "url", text_value(parameter.unwrap_or(PRIVATE))),
                "sqlite" => (kind, "path", text_value(parameter.unwrap_or(PRIVATE))),
                _ => refuse!("`{kind}` is no tier: memory, quick, redis, postgres, sqlite"),
            };
            settings.insert(setting.to_owned(), value);
            if table.insert(kind.to_owned(), toml::Value::Table(settings)).is_some() {
                refuse!("`{text}` has two tiers of one kind");
            }
        }
        let shown = if named.is_some() { name } else { without_secrets(&name) };
        let mut spec = Self::new(shown, table)?;
        spec.code = code;
        Ok(spec)
    }

    /// The settings as `terrace::config` reads them. `private` gives the URL or path of each tier, by its name,
    /// that the stack wants for itself.
    pub(crate) fn config(&self, mut private: impl FnMut(&str) -> Result<String>) -> Result<Config> {
        let mut table = self.table.clone();
        for tier in self.private_tiers() {
            let setting = if tier == "sqlite" { "path" } else { "url" };
            if let Some(toml::Value::Table(settings)) = table.get_mut(tier) {
                let found = match tier {
                    // Settings are checked before any server runs.
                    "postgres" => private(tier)?.replace("redis://", "postgres://"),
                    _ => private(tier)?,
                };
                settings.insert(setting.to_owned(), text_value(&found));
            }
        }
        table.try_into().map_err(Failure::new)
    }

    /// The tiers whose server is started for the run.
    pub(crate) fn private_tiers(&self) -> Vec<&'static str> {
        let is_private = |tier: &&str| {
            let settings = self.table.get(*tier).and_then(toml::Value::as_table);
            let address = settings.and_then(|settings| settings.get("url").or_else(|| settings.get("path")));
            address.and_then(toml::Value::as_str) == Some(PRIVATE)
        };
        ["redis", "postgres", "sqlite"].into_iter().filter(is_private).collect()
    }

    /// The entries that the near tier may hold.
    pub(crate) fn near_entries(&self) -> u64 {
        let config = self.config(|_| Ok("redis://127.0.0.1:1".to_owned()));
        config.ok().and_then(|config| config.memory).map_or(0, |memory| memory.entries)
    }

    /// The tiers, from near to far.
    pub(crate) fn tiers(&self) -> Vec<&'static str> {
        let all = ["memory", "redis", "postgres", "sqlite"];
        all.into_iter().filter(|tier| self.table.contains_key(*tier)).collect()
    }
}

/// The URL or path of a server or file that the run makes for itself.
const PRIVATE: &str = "private";

fn text_value(text: &str) -> toml::Value {
    toml::Value::String(text.to_owned())
}

/// The name of a stack, with logins in URLs left out.
fn without_secrets(text: &str) -> String {
    let hide = |tier: &str| match (tier.find("://"), tier.rfind('@')) {
        (Some(scheme), Some(login)) if login > scheme => {
            format!("{}{}", &tier[..scheme + 3], &tier[login + 1..])
        }
        _ => tier.to_owned(),
    };
    text.split('+').map(hide).collect::<Vec<_>>().join("+")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn specs(stacks: &[&str], file: Option<&str>) -> Result<Vec<StackSpec>> {
        let folder = tempfile::tempdir().unwrap();
        let file = file.map(|text| {
            let path = folder.path().join("stacks.toml");
            std::fs::write(&path, text).unwrap();
            path
        });
        StackOptions { stacks: stacks.iter().map(|&text| text.into()).collect(), file, ttl: 60 }.specs()
    }

    #[test]
    fn stacks_in_short_and_in_toml_have_the_settings_of_an_application() {
        let file = "
            [stacks.far.redis]
            url = 'private'
            [stacks.near]
            ttl_seconds = 5
            memory.entries = 7
            bench = { near = 'quick', codec = 'json' }
        ";
        let found = specs(&["quick:1_000+redis:redis://ann:hush@cache:1+sqlite", "x=memory"], Some(file));
        let found = found.unwrap();
        let names: Vec<&str> = found.iter().map(|spec| spec.name.as_str()).collect();
        assert_eq!(names, ["far", "near", "quick:1_000+redis:redis://cache:1+sqlite", "x"]);
        assert_eq!(found[1].code.codec, Some(CodecName::Json));
        assert_eq!(found[0].private_tiers(), ["redis"]);
        assert_eq!(found[2].private_tiers(), ["sqlite"]);
        assert_eq!(found[2].tiers(), ["memory", "redis", "sqlite"]);
        let config = found[2].config(|tier| Ok(format!("/tmp/{tier}"))).unwrap();
        assert_eq!(config.memory.unwrap().entries, 1_000);
        assert_eq!(config.sqlite.unwrap().path, PathBuf::from("/tmp/sqlite"));
        assert_eq!((config.ttl_seconds, found[2].code.near), (Some(60), NearEngine::Quick));
    }

    #[test]
    fn mistakes_are_one_line_and_show_no_secret() {
        for (stacks, file, expected) in [
            (&[][..], None, "give at least one stack"),
            (&["disk"], None, "`disk` is no tier: memory"),
            (&["memory:x"], None, "it is memory:ENTRIES"),
            (&["memory", "memory"], None, "two stacks have the name `memory`"),
            (&["redis+redis"], None, "two tiers of one kind"),
            (&[], Some("[stacks.a.redis]\nurls = 'redis://:hush@x'"), "unknown field `urls`"),
            (&[], Some("[stacks.a]\nbench.near = 'far'"), "unknown variant `far`"),
            (&[], Some("[memory]\nentries = 1"), "no table `[stacks.NAME]`"),
        ] {
            let line = specs(stacks, file).unwrap_err().to_string();
            assert!(line.contains(expected) && !line.contains('\n'), "{line}");
            assert!(!line.contains("hush"), "{line}");
        }
    }
}
