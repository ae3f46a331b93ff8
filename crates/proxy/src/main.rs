//! The program: `terrace-proxy [--config FILE]`.

use std::process::ExitCode;

use terrace::{
    BoxError, Error, Result,
    config::{Config, Stack},
};
use terrace_proxy::{Proxy, Settings, install_tls_provider};
use tokio::net::TcpListener;

const HELP: &str = "terrace-proxy [--config FILE]

A caching proxy for OpenAI- and Anthropic-compatible servers. Give your client the base URL
http://127.0.0.1:4141/openai/v1, or http://127.0.0.1:4141/anthropic.

Variables: TERRACE_PROXY_LISTEN, TERRACE_PROXY_ROUTES (name=url,name=url), TERRACE_PROXY_PRICES (a file),
REDIS_URL, DATABASE_URL. Without the last two, answers are kept in the file terrace-proxy.db.
";

#[tokio::main]
async fn main() -> ExitCode {
    tracing_subscriber::fmt().with_writer(std::io::stderr).init();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let config = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => None,
        ["--config", file] => Some(file.to_owned()),
        ["--help" | "-h"] => {
            print!("{HELP}");
            return ExitCode::SUCCESS;
        }
        _ => {
            eprint!("{HELP}");
            return ExitCode::from(2);
        }
    };
    match run(config.as_deref()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("terrace-proxy: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(file: Option<&str>) -> Result<(), BoxError> {
    install_tls_provider();
    let settings = match file {
        Some(file) => Settings::from_toml(&read(file)?)?,
        None => Settings::default(),
    }
    .with_env()?;
    let tiers = settings.cache.clone().unwrap_or_else(|| Config::embedded("terrace-proxy.db"));
    let proxy = Proxy::new(&Stack::new(&tiers.with_env()?)?, &settings)?;
    let listener = TcpListener::bind(settings.listen).await.map_err(|error| {
        Error::config(format!("cannot listen at {}: choose another address", settings.listen))
            .with_source(error)
    })?;
    tracing::info!(listen = %listener.local_addr()?, "terrace-proxy serves");
    axum::serve(listener, proxy.router()).with_graceful_shutdown(ended()).await?;
    proxy.cache().close().await?;
    Ok(())
}

fn read(file: &str) -> Result<String> {
    std::fs::read_to_string(file)
        .map_err(|error| Error::config(format!("the settings in {file}")).with_source(error))
}

/// Waits until the process is asked to end.
async fn ended() {
    let interrupt = tokio::signal::ctrl_c();
    #[cfg(unix)]
    if let Ok(mut terminate) = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()) {
        tokio::select! {
            _ = interrupt => {}
            _ = terminate.recv() => {}
        }
        return;
    }
    let _ = interrupt.await;
}
