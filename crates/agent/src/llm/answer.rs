//! An answer of a language model as it is kept: the bytes of the provider, and what is known of them.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// The tokens of one answer, as its provider reports them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Tokens of the prompt that the provider did not find in its own prompt cache.
    pub input: u64,
    /// Tokens of the prompt that the provider found in its own prompt cache, and bills at another rate.
    pub cached_input: u64,
    /// Tokens of the answer.
    pub output: u64,
}

/// What is kept of one answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: AnswerBody,
    /// The name of the model that the answer reports.
    pub(crate) model: Option<String>,
    pub(crate) usage: Option<Usage>,
    /// When upstream was asked, in ms since the Unix epoch.
    pub(crate) asked_at: u64,
    /// How long the answer took, in ms.
    pub(crate) took: u64,
}

/// The bytes as they came.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum AnswerBody {
    Whole(Bytes),
    /// Each event of a stream, with the ms from the beginning to it.
    Events(Vec<(u32, Bytes)>),
}

/// The headers of an answer that a later reader gets. All others belong to one connection or one call: cookies,
/// ids of requests, limits of rates, lengths.
pub(crate) const KEPT_HEADERS: [&str; 3] = ["content-type", "openai-version", "openai-model"];
