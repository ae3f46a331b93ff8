//! Variables by name, as texts, numbers and secrets.

use std::{ffi::OsString, str::FromStr};

use terrace_core::{Error, Result};

use crate::config::{Secret, SecretFile, address::both};

/// The variables that `.0` returns by name. An empty one counts as not set.
pub(in crate::config) struct Vars<F>(pub(in crate::config) F);

/// A password as a variable gives it.
pub(super) enum PasswordVar {
    Text(Secret),
    File(SecretFile),
}

impl<F: Fn(&str) -> Option<OsString>> Vars<F> {
    /// A text without the white space around it.
    pub(in crate::config) fn text(&self, name: &str) -> Result<Option<String>> {
        let text = self.raw(name)?.map(|text| text.trim().to_owned());
        Ok(text.filter(|text| !text.is_empty()))
    }

    pub(super) fn number<T: FromStr>(&self, name: &str) -> Result<Option<T>> {
        let parse = |text: String| {
            text.parse().map_err(|_| Error::config(format!("{name} is not a whole number in its range")))
        };
        self.text(name)?.map(parse).transpose()
    }

    pub(super) fn boolean(&self, name: &str) -> Result<Option<bool>> {
        match self.text(name)?.as_deref() {
            None => Ok(None),
            Some("true" | "1") => Ok(Some(true)),
            Some("false" | "0") => Ok(Some(false)),
            Some(_) => Err(Error::config(format!("{name} is true or false"))),
        }
    }

    /// A password, or the file that `{name}_FILE` names.
    pub(super) fn password(&self, name: &str) -> Result<Option<PasswordVar>> {
        let file = format!("{name}_FILE");
        match (self.raw(name)?, self.path(&file)) {
            (Some(_), Some(_)) => Err(both(name, &file)),
            (Some(text), None) => Ok(Some(PasswordVar::Text(text.into()))),
            (None, Some(path)) => Ok(Some(PasswordVar::File(path))),
            (None, None) => Ok(None),
        }
    }

    /// A connection string, or the content of the file that `{name}_FILE` names.
    pub(super) fn url(&self, name: &str) -> Result<Option<Secret>> {
        let url = match self.password(name)? {
            None => return Ok(None),
            Some(PasswordVar::Text(text)) => text,
            Some(PasswordVar::File(file)) => file.read(&format!("{name}_FILE"))?,
        };
        Ok(Some(url.expose().trim()).filter(|url| !url.is_empty()).map(Secret::from))
    }

    /// The path of a file with a secret.
    pub(super) fn path(&self, name: &str) -> Option<SecretFile> {
        self.0(name).filter(|path| !path.is_empty()).map(SecretFile::from)
    }

    fn raw(&self, name: &str) -> Result<Option<String>> {
        let text = self.0(name).map(OsString::into_string).transpose();
        let text = text.map_err(|_| Error::config(format!("{name} is not UTF-8")))?;
        Ok(text.filter(|text| !text.is_empty()))
    }
}

/// Puts the password of a variable into the place of that of the settings.
pub(super) fn set_password(
    password: &mut Option<Secret>,
    password_file: &mut Option<SecretFile>,
    given: Option<PasswordVar>,
) {
    match given {
        None => {}
        Some(PasswordVar::Text(text)) => (*password, *password_file) = (Some(text), None),
        Some(PasswordVar::File(file)) => (*password, *password_file) = (None, Some(file)),
    }
}
