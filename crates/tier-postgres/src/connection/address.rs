//! The URL of a server.

use std::str::FromStr;

use sqlx::postgres::PgConnectOptions;
use terrace_tier::{Error, Result};

/// The connection options of the URL `text`.
///
/// # Errors
/// [`ErrorKind::Config`](terrace_tier::ErrorKind::Config) for a malformed URL. The error has no
/// source, because the errors of sqlx and url may show parts of the URL.
pub(crate) fn parse(text: &str) -> Result<PgConnectOptions> {
    let malformed = || Error::config("not a Postgres URL: postgres://user:password@host:port/database");
    let mut url = url::Url::parse(text.trim()).map_err(|_| malformed())?;
    if !matches!(url.scheme(), "postgres" | "postgresql") {
        return Err(malformed());
    }
    // They are removed, because sqlx logs the value of a parameter that it does not know.
    let (known, unknown): (Vec<_>, Vec<_>) =
        url.query_pairs().into_owned().partition(|(name, _)| is_known(name));
    for (name, _) in &unknown {
        tracing::warn!(parameter = %name, "the Postgres URL has an unknown parameter, which is ignored");
    }
    if !unknown.is_empty() {
        url.query_pairs_mut().clear().extend_pairs(known);
    }
    PgConnectOptions::from_str(url.as_str()).map_err(|_| malformed())
}

fn is_known(parameter: &str) -> bool {
    matches!(
        parameter,
        "sslmode"
            | "ssl-mode"
            | "sslrootcert"
            | "ssl-root-cert"
            | "ssl-ca"
            | "sslcert"
            | "ssl-cert"
            | "sslkey"
            | "ssl-key"
            | "statement-cache-capacity"
            | "host"
            | "hostaddr"
            | "port"
            | "dbname"
            | "user"
            | "password"
            | "application_name"
            | "options"
    ) || (parameter.starts_with("options[") && parameter.ends_with(']'))
}
