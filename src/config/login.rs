//! The login of a server, out of its URL and of the settings beside it.

use terrace_core::{Error, Result};

use super::{Secret, SecretFile};

/// The names of the settings of one server, for errors: in TOML, and as a variable.
pub(super) struct LoginNames {
    pub(super) url: &'static str,
    pub(super) user: &'static str,
    pub(super) password: &'static str,
    pub(super) password_file: &'static str,
}

/// The settings of a login beside a URL.
pub(super) struct LoginSettings<'a> {
    pub(super) user: Option<&'a str>,
    pub(super) password: Option<&'a Secret>,
    pub(super) password_file: Option<&'a SecretFile>,
}

impl LoginSettings<'_> {
    /// The password that the settings give, out of its file where they name one.
    pub(super) fn password(&self, names: &LoginNames) -> Result<Option<Secret>> {
        match (self.password, self.password_file) {
            (Some(_), Some(_)) => Err(both(names.password, names.password_file)),
            (Some(password), None) => Ok(Some(password.clone())),
            (None, Some(file)) => file.read(names.password_file).map(Some),
            (None, None) => Ok(None),
        }
    }

    /// Completes the login of a URL.
    ///
    /// # Errors
    /// A user or password that differs from that of the URL.
    pub(super) fn complete(
        &self,
        names: &LoginNames,
        user: &mut Option<String>,
        password: &mut Option<String>,
    ) -> Result<()> {
        complete(user, self.user, "user", names.url, names.user)?;
        let given = self.password(names)?;
        let setting = if self.password_file.is_some() { names.password_file } else { names.password };
        complete(password, given.as_ref().map(Secret::expose), "password", names.url, setting)
    }
}

/// Puts a part of an address that a setting gives into the place of one that the URL leaves out.
///
/// # Errors
/// Two parts that differ: which one is meant is for the user to say.
pub(super) fn complete(
    in_url: &mut Option<String>,
    given: Option<&str>,
    part: &str,
    url: &str,
    setting: &str,
) -> Result<()> {
    match (&in_url, given) {
        (Some(known), Some(given)) if known != given => Err(differ(part, url, setting)),
        (None, Some(given)) => {
            *in_url = Some(given.to_owned());
            Ok(())
        }
        _ => Ok(()),
    }
}

/// The error for two settings that exclude each other.
pub(super) fn both(one: &str, other: &str) -> Error {
    Error::config(format!("{one} and {other} are both set: leave one of them out"))
}

/// The error for two settings that give one part of an address differently.
pub(super) fn differ(part: &str, url: &str, setting: &str) -> Error {
    Error::config(format!("{url} and {setting} name a different {part}: leave one of them out"))
}
