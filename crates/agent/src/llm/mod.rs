//! The cache of answers of language models.
//!
//! The key of a request is all of it but for a short list of fields ([`KeyRules`]), and the value is what the provider
//! answered, byte for byte. A stream is kept event by event and replayed as a stream.

mod answer;
mod call;
mod events;
mod judge;
mod key;
mod layer;
mod prices;
mod record;
mod recording;
mod reply;
mod request;
mod savings;
mod settings;
mod upstream;
mod warm;

use std::{fmt, sync::Arc};

use terrace::{Digest, Error, Lease, Level, Memory, Result, Stats, Tenants, Ttl, config::Stack};
use wildmatch::WildMatch;

pub use answer::Usage;
pub use judge::NotKept;
pub use key::KeyRules;
pub use layer::{LlmLayer, LlmService, ReplyBody};
pub use prices::Prices;
pub use reply::{Bypass, Outcome, ReplaySpeed, Reply};
pub use request::{Endpoint, LlmRequest};
pub use savings::ModelSavings;
pub use settings::{LlmSettings, When};
pub use warm::Warmed;

use answer::Answer;
use recording::LiveRecordings;
use savings::Savings;

use crate::generations::Generations;

/// How many calls of upstream may be under way in a process.
const MAX_CALLS: usize = 4096;

/// A cache of the answers of language models. It is a handle: clones share one cache.
///
/// [`call`](Self::call) answers a request from the cache, from a call that is under way, or from upstream.
///
/// # What is never kept
/// An answer whose status is not one of success; a stream without its end mark (`[DONE]`, `message_stop`,
/// `response.completed`) or that broke; an answer that is empty, filtered, refused or an error; a tool call whose
/// arguments are not JSON; an answer of more than [`LlmSettings::max_answer_bytes`]; the answers to requests that depend
/// on state of the provider (`previous_response_id`, `conversation`, `background`).
///
/// # Cost
/// A hit near costs a hash of the canonical body and no trip. A miss adds one lookup and one lease to the call of
/// upstream. What is counted costs no trip: a process sends its sums once a second.
///
/// ```
/// use bytes::Bytes;
/// use futures_util::stream;
/// use terrace::config::{Config, Stack};
/// use terrace_agent::{LlmCache, LlmRequest, LlmSettings, llm::Outcome};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> terrace::Result<()> {
/// let cache = LlmCache::new(&Stack::new(&Config::in_memory())?, LlmSettings::default())?;
/// let body = r#"{"model": "small", "messages": [{"role": "user", "content": "Why is the sky blue?"}]}"#;
/// let request = LlmRequest::new("openai", "/v1/chat/completions", &http::HeaderMap::new(), body)?;
/// let ask = || async {
///     let answer = r#"{"choices": [{"finish_reason": "stop", "message": {"content": "Light scatters."}}]}"#;
///     let body = stream::iter([Ok::<_, std::io::Error>(Bytes::from(answer))]);
///     Ok::<_, std::io::Error>(http::Response::new(body))
/// };
/// let first = cache.call(&request, ask).await?;
/// assert_eq!(first.outcome(), Outcome::Miss);
/// let first = first.bytes().await?;
/// let second = cache.call(&request, ask).await?;
/// assert_eq!(second.outcome(), Outcome::Hit);
/// assert_eq!(second.bytes().await?, first);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct LlmCache(Arc<Inner>);

struct Inner {
    answers: Tenants<Digest, Answer, Memory<Digest, Answer>>,
    models: Generations,
    settings: LlmSettings,
    savings: Savings,
    live: Arc<LiveRecordings>,
}

impl LlmCache {
    /// A cache over the tiers of `stack`, in the namespace `llm` unless the settings name another.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](terrace::ErrorKind::Config) for settings that cannot work, and
    /// [`ErrorKind::NamespaceInUse`](terrace::ErrorKind::NamespaceInUse) for a second cache of the namespace with other
    /// settings.
    ///
    /// # Cost
    /// No trip.
    pub fn new(stack: &Stack, settings: LlmSettings) -> Result<Self> {
        settings.check()?;
        let namespace = &settings.namespace;
        let answers = stack
            .builder(namespace)
            .expire(Ttl::of(settings.life))
            .level(Level::Fenced)
            .stampede(Lease)
            .load_deadline(settings.deadline)
            .max_loads(MAX_CALLS)
            .build_per_tenant()?;
        let models = Generations::new(stack, namespace)?;
        let savings = Savings::new(stack.counters(namespace));
        Ok(Self(Arc::new(Inner { answers, models, savings, settings, live: Arc::default() })))
    }

    /// The key of a request, under the present generation of its model. It is `None` for a request that the cache
    /// cannot tell from another one: one with an integer of 2^53 or more.
    ///
    /// # Errors
    /// The errors of the cache that holds the generations of models.
    pub async fn key(&self, request: &LlmRequest) -> Result<Option<Digest>> {
        let of_model = self.0.models.of("", request.model().unwrap_or_default()).await?;
        let settings = &self.0.settings;
        Ok(settings.rules.key(request, &settings.generation, of_model))
    }

    /// Makes all answers of the models whose name matches `models` unreachable, for all tenants and processes. `*`
    /// stands for any text and `?` for one character. The known models are those that were counted or have a price; a
    /// name without a wildcard is retired whether it is known or not. Returns the names that were retired.
    ///
    /// An answer whose call began before is not read after the retirement either. Another process may give an answer
    /// of before for as long as the log takes to tell it, some milliseconds, and where the log is silent for a second.
    /// Where the stack has no shared tier, each process retires for itself.
    ///
    /// # Errors
    /// [`ErrorKind::Partial`](terrace::ErrorKind::Partial) if a tier did not confirm the retirement: call it again.
    ///
    /// # Cost
    /// One read of the counters, and one trip to each tier for each model. The memory of the answers is free at the end
    /// of their lives.
    pub async fn retire(&self, models: &str) -> Result<Vec<String>> {
        let mut names = vec![models.to_owned()];
        if models.contains(['*', '?']) {
            let pattern = WildMatch::new(models);
            let counted = self.0.savings.read(&self.0.settings.prices).await?;
            let known = counted.into_iter().map(|model| model.model);
            names = known.chain(self.0.settings.prices.models().map(str::to_owned)).collect();
            names.retain(|name| pattern.matches(name));
            names.sort_unstable();
            names.dedup();
        }
        for name in &names {
            self.0.models.retire("", name).await?;
        }
        Ok(names)
    }

    /// What the cache has spared, for each model, in all processes that share the stack's Redis or database. In a stack
    /// of memory alone these are the numbers of this process.
    ///
    /// # Errors
    /// The errors of the server that keeps the counters.
    ///
    /// # Cost
    /// At most two requests: what this process has counted is sent first.
    pub async fn savings(&self) -> Result<Vec<ModelSavings>> {
        self.0.savings.read(&self.0.settings.prices).await
    }

    /// Drops all answers of a tenant.
    ///
    /// # Errors
    /// [`ErrorKind::Partial`](terrace::ErrorKind::Partial) if a tier did not confirm it.
    pub async fn clear_tenant(&self, tenant: &str) -> Result<()> {
        self.0.answers.tenant(tenant)?.clear().await
    }

    /// The counters of the cache's tiers.
    ///
    /// # Errors
    /// The errors of [`Tenants::tenant`](terrace::Tenants::tenant).
    pub fn stats(&self) -> Result<Stats> {
        Ok(self.0.answers.tenant("shared")?.stats())
    }

    /// Waits until every tier answers, and returns what is wrong there and only slows the cache.
    ///
    /// # Errors
    /// As [`Cache::ready`](terrace::Cache::ready).
    pub async fn ready(&self) -> Result<Vec<terrace::server::Finding>> {
        self.0.models.ready().await?;
        self.0.answers.tenant("shared")?.ready().await
    }

    /// Makes one round trip to every tier.
    ///
    /// # Errors
    /// The error of the first tier that does not answer.
    pub async fn ping(&self) -> Result<()> {
        self.0.answers.tenant("shared")?.ping().await
    }

    /// Ends the cache: it sends the sums of the counters, and waits for fills under way for at most five seconds.
    ///
    /// # Errors
    /// The errors of the server that keeps the counters. The cache is closed nevertheless.
    pub async fn close(&self) -> Result<()> {
        let flushed = self.0.savings.flush().await;
        self.0.answers.tenant("shared")?.close().await;
        self.0.models.close().await;
        flushed
    }

    fn named(&self, error: Error) -> Error {
        error.in_cache(&*self.0.settings.namespace).during("call")
    }
}

impl fmt::Debug for LlmCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LlmCache").field("settings", &self.0.settings).finish_non_exhaustive()
    }
}
