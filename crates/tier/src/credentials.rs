//! Logins that are asked for at each connect, and the removal of their text from what a server answers.

use std::{borrow::Cow, fmt, sync::Arc};

use async_trait::async_trait;
use parking_lot::Mutex;

use crate::BoxError;

/// A login. Its `Debug` output does not show the password.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    user: Option<String>,
    password: String,
}

impl Credentials {
    /// A login with a password and the default user, or the user of the URL.
    pub fn password(password: impl Into<String>) -> Self {
        Self { user: None, password: password.into() }
    }

    /// A login of `user`.
    pub fn new(user: impl Into<String>, password: impl Into<String>) -> Self {
        Self { user: Some(user.into()), password: password.into() }
    }

    /// The user, if it is not the default user or that of the URL.
    pub fn user(&self) -> Option<&str> {
        self.user.as_deref()
    }

    /// The password itself.
    pub fn expose_password(&self) -> &str {
        &self.password
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("user", &self.user).finish_non_exhaustive()
    }
}

/// Gives the login for each new connection, for passwords and tokens that live for minutes.
///
/// A connection keeps the login that it was opened with. An error counts as a failed attempt to connect: the
/// tier tries again later, and its calls fail meanwhile.
///
/// # Example
/// ```
/// use terrace_tier::{BoxError, Credentials, CredentialsProvider};
///
/// async fn token() -> Result<Credentials, BoxError> {
///     Ok(Credentials::new("app", "a token that was signed a moment ago"))
/// }
///
/// fn takes(_provider: impl CredentialsProvider) {}
/// takes(token);
/// ```
#[async_trait]
pub trait CredentialsProvider: Send + Sync + 'static {
    /// The login for one new connection.
    ///
    /// # Errors
    /// Whatever keeps the provider from giving a login. Its text appears in the tier's error.
    async fn credentials(&self) -> Result<Credentials, BoxError>;
}

#[async_trait]
impl<F, Fut> CredentialsProvider for F
where
    F: Fn() -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<Credentials, BoxError>> + Send,
{
    async fn credentials(&self) -> Result<Credentials, BoxError> {
        self().await
    }
}

/// The number of passwords that [`Secrets`] remembers.
const REMEMBERED: usize = 8;

/// The passwords that this process has sent to a server. Servers, proxies and drivers quote what they were
/// sent, so a tier takes its own passwords out of any foreign text before it shows the text.
///
/// It remembers the last eight passwords: a provider gives new ones again and again.
#[derive(Clone, Default)]
pub struct Secrets(Arc<Mutex<Vec<String>>>);

impl Secrets {
    /// Remembers a password from now on. An empty one is nothing to hide.
    pub fn add(&self, secret: &str) {
        let mut known = self.0.lock();
        if secret.is_empty() || known.iter().any(|one| one == secret) {
            return;
        }
        if known.len() == REMEMBERED {
            known.remove(0);
        }
        known.push(secret.to_owned());
    }

    /// The text with `***` in the place of each remembered password.
    pub fn redact<'a>(&self, text: &'a str) -> Cow<'a, str> {
        let mut known = self.0.lock().clone();
        // The longest first: one password may be a part of another.
        known.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
        let mut text = Cow::Borrowed(text);
        for secret in &known {
            if text.contains(secret.as_str()) {
                text = Cow::Owned(text.replace(secret.as_str(), "***"));
            }
        }
        text
    }
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secrets(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_that_a_server_quotes_is_not_shown() {
        let secrets = Secrets::default();
        for secret in ["S3cret", "S3cret-and-longer", ""] {
            secrets.add(secret);
        }
        let quoted =
            "unknown command 'HELLO', with args beginning with: '3' 'AUTH' 'S3cret-and-longer' 'S3cret'";
        let shown = "unknown command 'HELLO', with args beginning with: '3' 'AUTH' '***' '***'";
        assert_eq!(secrets.redact(quoted), shown);
        assert!(matches!(secrets.redact("nothing of ours"), Cow::Borrowed(_)));
        assert!(!format!("{secrets:?} {:?}", Credentials::new("me", "S3cret")).contains("S3cret"));
    }

    #[test]
    fn the_last_eight_passwords_are_remembered() {
        let secrets = Secrets::default();
        for number in 0..20 {
            secrets.add(&format!("password-{number:02}"));
        }
        let known = |number: usize| secrets.redact(&format!("password-{number:02}")) == "***";
        assert_eq!((0..20).filter(|number| known(*number)).collect::<Vec<_>>(), (12..20).collect::<Vec<_>>());
    }
}
