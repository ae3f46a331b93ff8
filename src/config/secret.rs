//! Text that may hold a password, and files that do.

use std::{
    fmt,
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
};

use serde::Deserialize;
use terrace_core::{Error, Result};

/// The longest content of a [`SecretFile`]. Tokens have some 10 KiB at most.
const MAX_FILE_BYTES: u64 = 64 << 10;

/// The longest file of certificates. The authorities that a system trusts have some 250 KiB.
const MAX_PEM_BYTES: u64 = 1 << 20;

/// A connection string or a password. It is never part of any output: its `Debug` shows no text.
#[derive(Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// The text itself.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl<T: Into<String>> From<T> for Secret {
    fn from(text: T) -> Self {
        Self(text.into())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// The path of a file whose content is a password, a key or a certificate, as Docker and Kubernetes mount their
/// secrets.
///
/// One newline at the end of the content is not part of a password. No output shows the path either: the
/// password itself is sometimes written there by mistake.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct SecretFile(PathBuf);

impl SecretFile {
    /// The path of the file.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// The password in the file. `setting` is the name of the setting for the error, which shows neither the
    /// path nor the content.
    pub(super) fn read(&self, setting: &str) -> Result<Secret> {
        let content = self.content(setting, MAX_FILE_BYTES)?;
        let text = String::from_utf8(content).map_err(|_| unusable(setting, "is not UTF-8"))?;
        let text = text.strip_suffix('\n').unwrap_or(&text);
        let text = text.strip_suffix('\r').unwrap_or(text);
        if text.is_empty() {
            return Err(unusable(setting, "is empty"));
        }
        Ok(text.into())
    }

    /// The certificates or the key in the file.
    pub(super) fn read_pem(&self, setting: &str) -> Result<Vec<u8>> {
        self.content(setting, MAX_PEM_BYTES)
    }

    fn content(&self, setting: &str, max_bytes: u64) -> Result<Vec<u8>> {
        let cannot_be_read =
            |error: io::Error| unusable(setting, &format!("cannot be read: {}", error.kind()));
        // A pipe could keep this call waiting for ever.
        if !self.0.metadata().map_err(cannot_be_read)?.is_file() {
            return Err(unusable(setting, "is no regular file"));
        }
        let mut content = Vec::new();
        let file = File::open(&self.0).map_err(cannot_be_read)?;
        file.take(max_bytes + 1).read_to_end(&mut content).map_err(cannot_be_read)?;
        if content.len() as u64 > max_bytes {
            return Err(unusable(setting, &format!("is longer than {} KiB", max_bytes >> 10)));
        }
        Ok(content)
    }
}

fn unusable(setting: &str, why: &str) -> Error {
    Error::config(format!("{setting} names a file that {why}"))
}

impl<T: Into<PathBuf>> From<T> for SecretFile {
    fn from(path: T) -> Self {
        Self(path.into())
    }
}

impl fmt::Debug for SecretFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretFile(..)")
    }
}

#[cfg(test)]
mod tests {
    use terrace_core::ErrorKind;

    use super::*;

    fn read(content: &[u8]) -> Result<Secret> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("hush");
        std::fs::write(&path, content).unwrap();
        SecretFile::from(path).read("REDIS_PASSWORD_FILE")
    }

    #[test]
    fn one_newline_at_the_end_is_no_part_of_the_password() {
        for (content, password) in [
            ("hush", "hush"),
            ("hush\n", "hush"),
            ("hush\r\n", "hush"),
            ("hush\n\n", "hush\n"),
            (" hush ", " hush "),
            ("\nhush", "\nhush"),
        ] {
            assert_eq!(read(content.as_bytes()).unwrap().expose(), password, "{content:?}");
        }
        let longest = "h".repeat(64 << 10);
        assert_eq!(read(longest.as_bytes()).unwrap().expose(), longest);
    }

    #[test]
    fn a_file_that_cannot_be_used_is_named_by_its_setting_and_not_shown() {
        let shown = |outcome: Result<Secret>| {
            let error = outcome.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config);
            let shown = format!("{error} {error:?}");
            assert!(shown.contains("REDIS_PASSWORD_FILE") && !shown.contains("hush"), "{shown}");
            shown
        };
        for empty in ["", "\n", "\r\n"] {
            assert!(shown(read(empty.as_bytes())).contains("is empty"));
        }
        assert!(shown(read(b"hush\xff")).contains("is not UTF-8"));
        assert!(shown(read(&b"hush".repeat(16 << 10 | 1))).contains("is longer than 64 KiB"));
        for (path, why) in [
            ("/no/hush/there", "cannot be read: entity not found"),
            ("/", "is no regular file"),
            ("/dev/zero", "is no regular file"),
            ("hush\0", "cannot be read"),
        ] {
            assert!(shown(SecretFile::from(path).read("REDIS_PASSWORD_FILE")).contains(why), "{path}");
        }
        assert!(!format!("{:?}", SecretFile::from("/run/hush")).contains("hush"));
    }
}
