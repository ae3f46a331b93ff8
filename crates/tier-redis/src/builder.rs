//! The settings of a handle.

use std::{
    fmt,
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};

use redis::RedisConnectionInfo;
use terrace_tier::{CredentialsProvider, Result, Secrets};

use crate::{
    connection::{Address, Certificates, Dialer, Tls},
    handle::{Redis, config},
    namespace::is_prefix,
};

/// The settings of a [`Redis`] handle.
#[derive(Clone)]
pub struct RedisBuilder {
    address: Result<Address>,
    sentinel_login: RedisConnectionInfo,
    credentials: Option<Arc<dyn CredentialsProvider>>,
    certificates: Certificates,
    prefix: String,
    connect_timeout: Duration,
    max_value_bytes: usize,
    is_plaintext_allowed: bool,
}

impl RedisBuilder {
    pub(crate) fn new(url: &str) -> Self {
        Self {
            address: Address::parse(url),
            sentinel_login: RedisConnectionInfo::default().set_skip_set_lib_name(),
            credentials: None,
            certificates: Certificates::default(),
            prefix: "terrace".into(),
            connect_timeout: Duration::from_secs(1),
            max_value_bytes: 1 << 20,
            is_plaintext_allowed: false,
        }
    }

    /// The prefix of all keys, by default `terrace`: 1 to 64 letters, digits, `_`, `-` or `.`. Braces around it, as in
    /// `{shop}`, make it the hash tag of all keys of the handle.
    #[must_use]
    pub fn prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = prefix.into();
        self
    }

    /// The user of the login. It replaces a user in the URL.
    #[must_use]
    pub fn username(mut self, user: impl AsRef<str>) -> Self {
        self.address = self.address.map(|mut address| {
            address.login = address.login.set_username(user);
            address
        });
        self
    }

    /// The password of the login. It replaces a password in the URL.
    #[must_use]
    pub fn password(mut self, password: impl AsRef<str>) -> Self {
        self.address = self.address.map(|mut address| {
            address.login = address.login.set_password(password);
            address
        });
        self
    }

    /// Asks `provider` for the login of each new connection, for passwords and tokens that live for minutes.
    /// A user that it does not name is that of the URL.
    ///
    /// An open connection keeps its login. A provider that fails, panics or takes longer than the
    /// [`connect_timeout`](Self::connect_timeout) is a failed attempt to connect.
    ///
    /// # Example
    /// ```
    /// use terrace_tier::{BoxError, Credentials};
    /// use terrace_tier_redis::Redis;
    ///
    /// async fn token() -> Result<Credentials, BoxError> {
    ///     Ok(Credentials::new("app", "a token that was signed a moment ago"))
    /// }
    ///
    /// let redis = Redis::builder("rediss://cache.example").credentials(token).build()?;
    /// # Ok::<(), terrace_tier::Error>(())
    /// ```
    #[must_use]
    pub fn credentials(mut self, provider: impl CredentialsProvider) -> Self {
        self.credentials = Some(Arc::new(provider));
        self
    }

    /// The user of the login at the sentinels. Without it and
    /// [`sentinel_password`](Self::sentinel_password), the sentinels are asked without a login.
    #[must_use]
    pub fn sentinel_username(mut self, user: impl AsRef<str>) -> Self {
        self.sentinel_login = self.sentinel_login.set_username(user);
        self
    }

    /// The password of the login at the sentinels, which is separate from that of the servers.
    #[must_use]
    pub fn sentinel_password(mut self, password: impl AsRef<str>) -> Self {
        self.sentinel_login = self.sentinel_login.set_password(password);
        self
    }

    /// The certificates of the authorities that may sign the server's certificate, in PEM. They replace the
    /// authorities that the system trusts.
    #[must_use]
    pub fn tls_ca(mut self, pem: impl Into<Vec<u8>>) -> Self {
        self.certificates.ca = Some(pem.into());
        self
    }

    /// The certificate that is shown to the server, with the chain up to its authority, and its key, in PEM.
    #[must_use]
    pub fn tls_client_certificate(
        mut self,
        certificate_pem: impl Into<Vec<u8>>,
        key_pem: impl Into<Vec<u8>>,
    ) -> Self {
        self.certificates.client = Some((certificate_pem.into(), key_pem.into()));
        self
    }

    /// The longest time for one attempt to connect, by default 1 s. An attempt at a port that does not answer as
    /// a Redis server does may take half a second longer, to find out why.
    #[must_use]
    pub fn connect_timeout(mut self, connect_timeout: Duration) -> Self {
        self.connect_timeout = connect_timeout;
        self
    }

    /// The largest encoded value in bytes, by default 1 MiB.
    ///
    /// A write of a larger value fails with [`ErrorKind::TooLarge`](terrace_tier::ErrorKind::TooLarge). On the
    /// shared connection it would delay all other calls.
    #[must_use]
    pub fn max_value_bytes(mut self, max_value_bytes: usize) -> Self {
        self.max_value_bytes = max_value_bytes;
        self
    }

    /// Allows a connection without TLS to another host. The network between can then read and change the
    /// cached values.
    #[must_use]
    pub fn allow_plaintext(mut self) -> Self {
        self.is_plaintext_allowed = true;
        self
    }

    /// Builds the handle. The first call through it connects.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](terrace_tier::ErrorKind::Config) for an invalid URL or prefix, for certificates that
    /// cannot be used, and for another host without TLS unless [`allow_plaintext`](Self::allow_plaintext) is set.
    pub fn build(self) -> Result<Redis> {
        let address = self.address?;
        if address.is_plaintext_to_another_host() && !self.is_plaintext_allowed {
            return Err(config(format!(
                "{address} is another host without TLS; use TLS (rediss://), or allow it with allow_plaintext()"
            )));
        }
        if !is_prefix(&self.prefix) {
            return Err(config(
                "a key prefix is 1 to 64 letters, digits, '_', '-' or '.', with or without braces around it",
            ));
        }
        if !address.is_tls && !self.certificates.is_empty() {
            return Err(config(format!("{address} has certificates but no TLS; use TLS (rediss://)")));
        }
        let secrets = Secrets::default();
        for login in [&address.login, &self.sentinel_login] {
            secrets.add(login.password().unwrap_or_default());
        }
        let dialer = Dialer {
            tls: address.is_tls.then(|| Tls::new(&self.certificates)).transpose()?,
            address,
            sentinel_login: self.sentinel_login,
            is_plaintext_allowed: self.is_plaintext_allowed,
            credentials: self.credentials,
            secrets,
            connect_timeout: self.connect_timeout,
            is_resp2: AtomicBool::new(false),
        };
        Ok(Redis::connect_through(dialer, self.prefix, self.max_value_bytes))
    }
}

impl fmt::Debug for RedisBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisBuilder")
            .field("address", &self.address)
            .field("prefix", &self.prefix)
            .field("connect_timeout", &self.connect_timeout)
            .field("max_value_bytes", &self.max_value_bytes)
            .field("is_plaintext_allowed", &self.is_plaintext_allowed)
            .field("certificates", &self.certificates)
            .finish_non_exhaustive()
    }
}
