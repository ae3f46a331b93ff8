//! A caching proxy for OpenAI- and Anthropic-compatible servers of language models. An agent uses it by its base URL.
//!
//! The program `terrace-proxy` is this library with settings and a listener. See the readme of the crate.

#![cfg_attr(docsrs, feature(doc_cfg))]

mod forward;
mod proxy;
mod respond;
mod settings;
mod status;

pub use proxy::Proxy;
pub use settings::{Scope, Settings};

/// Makes ring the provider of TLS for this process. It does nothing where the process has one already.
pub fn install_tls_provider() {
    // The error says that there is one, which is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
}
