//! A private Prometheus, which scrapes the program under test.

use std::{
    io::{self, Read, Write},
    path::{Path, PathBuf},
    process::Command,
};

use crate::{
    PrivateServer, Result, ServerOptions, probe, programs,
    server::{ServerKind, SetUpStep, write_private},
};

/// A private `prometheus` on a free loopback port, with a folder of its own.
///
/// ```no_run
/// # async fn example(port: u16) -> terrace_testbed::Result<()> {
/// let prometheus = terrace_testbed::Prometheus::options().scrape(port).start().await?;
/// println!("{}/api/v1/query?query=up", prometheus.url());
/// # Ok(())
/// # }
/// ```
pub type Prometheus = PrivateServer<PrometheusKind>;

/// How a [`Prometheus`] is to run.
pub type PrometheusOptions = ServerOptions<PrometheusKind>;

/// The kind of server that `prometheus` is.
#[derive(Clone, Copy, Debug, Default)]
pub struct PrometheusKind;

const CONFIG: &str = "prometheus.yml";

impl ServerOptions<PrometheusKind> {
    /// Scrapes `/metrics` on this loopback port once a second.
    #[must_use]
    pub fn scrape(self, port: u16) -> Self {
        self.with_setting("target", &format!("127.0.0.1:{port}"))
    }
}

impl ServerKind for PrometheusKind {
    const PROGRAM: &'static str = "prometheus";
    const END_SIGNAL: &'static str = "KILL";

    fn program() -> Result<PathBuf> {
        programs::prometheus()
    }

    fn set_up(folder: &Path, options: &PrometheusOptions) -> Result<Vec<SetUpStep>> {
        let targets: Vec<&str> = options.settings.iter().map(|(_, target)| target.as_str()).collect();
        let config = format!(
            "global: {{ scrape_interval: 1s }}\nscrape_configs:\n  - job_name: tests\n    \
             static_configs: [{{ targets: {targets:?} }}]\n"
        );
        write_private(&folder.join(CONFIG), &config, "writing prometheus.yml")?;
        Ok(Vec::new())
    }

    fn command(program: &Path, folder: &Path, port: u16, _options: &PrometheusOptions) -> Command {
        let mut command = Command::new(program);
        command.arg(format!("--config.file={}", folder.join(CONFIG).display()));
        command.arg(format!("--storage.tsdb.path={}", folder.join("data").display()));
        command.arg(format!("--web.listen-address=127.0.0.1:{port}"));
        command
    }

    fn is_ready(port: u16) -> io::Result<bool> {
        let mut socket = probe::connect(port)?;
        socket.write_all(b"GET /-/ready HTTP/1.0\r\n\r\n")?;
        let mut answer = [0_u8; 12];
        socket.read_exact(&mut answer)?;
        Ok(answer.ends_with(b" 200"))
    }

    fn url(port: u16, _password: Option<&str>) -> String {
        format!("http://127.0.0.1:{port}")
    }
}
