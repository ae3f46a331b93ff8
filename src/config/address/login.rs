//! The login of a server, out of its URL and of the settings beside it.

use terrace_core::{Error, Result};

use crate::config::{Secret, SecretFile};

/// The names of the settings of one server, for errors: in TOML, and as a variable.
pub(super) struct LoginNames {
    pub(super) url: &'static str,
    pub(super) user: &'static str,
    pub(super) password: &'static str,
    pub(super) password_file: &'static str,
}

/// A login, out of a URL and the settings beside it.
#[cfg_attr(
    not(any(feature = "redis", feature = "postgres")),
    expect(dead_code, reason = "it is checked, and no server is reached")
)]
#[derive(Default)]
pub(in crate::config) struct Login {
    pub(in crate::config) user: Option<String>,
    pub(in crate::config) password: Option<Secret>,
    /// The file from which the password came, and the name of its setting.
    pub(in crate::config) file: Option<(SecretFile, &'static str)>,
}

/// The settings of a login beside a URL.
pub(super) struct LoginSettings<'a> {
    pub(super) user: Option<&'a str>,
    pub(super) password: Option<&'a Secret>,
    pub(super) password_file: Option<&'a SecretFile>,
}

impl LoginSettings<'_> {
    /// The login of a URL, completed by these settings.
    ///
    /// # Errors
    /// A user or password that differs from that of the URL; a file that cannot be read.
    pub(super) fn complete(
        &self,
        names: &LoginNames,
        in_url: (Option<String>, Option<String>),
    ) -> Result<Login> {
        let (mut user, mut password) = in_url;
        complete(&mut user, self.user, "user", names.url, names.user)?;
        let file = self.password_file.map(|file| (file.clone(), names.password_file));
        let (given, setting) = match (self.password, &file) {
            (Some(_), Some(_)) => return Err(both(names.password, names.password_file)),
            (Some(password), None) => (Some(password.clone()), names.password),
            (None, Some((file, setting))) => (Some(file.read(setting)?), *setting),
            (None, None) => (None, names.password),
        };
        complete(&mut password, given.as_ref().map(Secret::expose), "password", names.url, setting)?;
        Ok(Login { user, password: password.map(Secret::from), file })
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
pub(in crate::config) fn both(one: &str, other: &str) -> Error {
    Error::config(format!("{one} and {other} are both set: leave one of them out"))
}

/// The error for two settings that give one part of an address differently.
pub(super) fn differ(part: &str, url: &str, setting: &str) -> Error {
    Error::config(format!("{url} and {setting} name a different {part}: leave one of them out"))
}
