//! How a private server is to run.

use std::{marker::PhantomData, sync::Arc};

use super::{
    PrivateServer, ServerKind, blocking,
    process::{ProcessSpec, ServerProcess},
};
use crate::Result;

/// How a [`PrivateServer`] is to run.
#[derive(Clone, Default)]
pub struct ServerOptions<K> {
    pub(crate) password: Option<String>,
    pub(crate) durable: bool,
    /// Names and values, in the server's own terms.
    pub(crate) settings: Vec<(String, String)>,
    kind: PhantomData<K>,
}

impl<K: ServerKind> ServerOptions<K> {
    pub(super) fn new() -> Self {
        Self { password: None, durable: false, settings: Vec::new(), kind: PhantomData }
    }

    /// Clients must give this password. Use letters and digits alone: the password stands unescaped
    /// in a URL and in a configuration file.
    #[must_use]
    pub fn password(mut self, password: &str) -> Self {
        self.password = Some(password.to_owned());
        self
    }

    /// Every write waits for the disk, and the data outlives a kill of the server.
    #[must_use]
    pub fn durable(mut self) -> Self {
        self.durable = true;
        self
    }

    pub(crate) fn with_setting(mut self, name: &str, value: &str) -> Self {
        self.settings.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Starts the server and waits until it answers.
    ///
    /// # Errors
    /// [`Error::MissingProgram`](crate::Error::MissingProgram) if the server is not installed;
    /// [`Error::Exited`](crate::Error::Exited) or [`Error::NotReady`](crate::Error::NotReady), with
    /// the end of the server's output, if it does not come up.
    ///
    /// # Cost
    /// About 30 ms for Redis and 0.5 s for Postgres, most of it `initdb`.
    pub async fn start(self) -> Result<PrivateServer<K>> {
        blocking(move || {
            let server = self.prepare()?;
            server.process.start()?;
            Ok(server)
        })
        .await
    }

    /// Reserves a port and a folder and starts nothing: connections are refused until
    /// [`PrivateServer::restart`].
    ///
    /// # Errors
    /// [`Error::MissingProgram`](crate::Error::MissingProgram) if the server is not installed.
    pub async fn away(self) -> Result<PrivateServer<K>> {
        blocking(move || self.prepare()).await
    }

    fn prepare(self) -> Result<PrivateServer<K>> {
        let program = K::program()?;
        let options = Arc::new(self);
        let of_command = Arc::clone(&options);
        let process = ServerProcess::away(ProcessSpec {
            program: K::PROGRAM,
            command: Box::new(move |folder, port| K::command(&program, folder, port, &of_command)),
            is_ready: K::is_ready,
            end_signal: K::END_SIGNAL,
            on_disk: options.durable,
        })?;
        for step in K::set_up(process.folder(), &options)? {
            process.run_first(step)?;
        }
        Ok(PrivateServer { process: Arc::new(process), options })
    }
}
