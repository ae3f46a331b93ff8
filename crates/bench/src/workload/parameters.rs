//! The small language of options such as `zipf:keys=1000,exponent=0.9`.

use std::{fmt::Display, str::FromStr};

/// The parameters behind a name, each of which is taken once.
pub(super) struct Parameters<'a>(Vec<(&'a str, &'a str)>);

impl<'a> Parameters<'a> {
    /// Splits `a=1,b=2`.
    pub(super) fn parse(text: &'a str) -> Result<Self, String> {
        let pairs = text.split(',').filter(|part| !part.is_empty());
        let pair = |part: &'a str| part.split_once('=').ok_or(format!("`{part}` is no `name=value`"));
        pairs.map(pair).collect::<Result<_, _>>().map(Self)
    }

    /// Takes a parameter, or its default.
    pub(super) fn take<T: FromStr<Err: Display>>(&mut self, name: &str, default: T) -> Result<T, String> {
        let Some(place) = self.0.iter().position(|(given, _)| *given == name) else { return Ok(default) };
        let (_, value) = self.0.remove(place);
        value.replace('_', "").parse().map_err(|error| format!("{name}={value}: {error}"))
    }

    /// Refuses parameters that nobody took.
    pub(super) fn end(self) -> Result<(), String> {
        match self.0.first() {
            Some((name, _)) => Err(format!("unknown parameter `{name}`")),
            None => Ok(()),
        }
    }
}
