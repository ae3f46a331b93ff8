//! Caches for AI agents over `terrace`: answers of language models, results of tools, embeddings, and what is
//! known of pictures and crawled pages.
//!
//! Each part takes a [`Stack`](terrace::config::Stack), so that the tiers are chosen by configuration: memory
//! alone, an embedded file, Redis, Postgres.
//!
//! | part | feature | what it keeps |
//! |---|---|---|
#![cfg_attr(
    feature = "llm",
    doc = "| [`LlmCache`] | `llm` | whole answers of language models, streams too |"
)]
#![cfg_attr(feature = "llm", doc = "| [`ToolCache`] | `llm` | results of tools that only read |")]
#![cfg_attr(feature = "embed", doc = "| [`Embeddings`] | `embed` | vectors, bit-exact or as f16 |")]
#![cfg_attr(feature = "media", doc = "| [`Media`] | `media` | perceptual hashes, faces, crawled pages |")]
#![cfg_attr(docsrs, feature(doc_cfg))]

#[cfg(feature = "llm")]
mod counts;
#[cfg(feature = "embed")]
mod embed;
#[cfg(feature = "llm")]
mod generations;
mod hash;
#[cfg(feature = "llm")]
mod json;
#[cfg(feature = "llm")]
pub mod llm;
#[cfg(feature = "media")]
mod media;
#[cfg(feature = "llm")]
mod tools;

#[cfg(feature = "embed")]
pub use embed::{EmbeddingSettings, Embeddings, Precision, Vector};
#[cfg(feature = "llm")]
pub use llm::{LlmCache, LlmRequest, LlmSettings, Reply};
#[cfg(feature = "media")]
pub use media::{Claim, Face, Media, MediaSettings, Page, Seen};
#[cfg(feature = "llm")]
pub use tools::{ToolCache, ToolResult, ToolSettings};
