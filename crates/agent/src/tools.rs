//! The cache of the results of tools.

use std::{collections::BTreeMap, fmt, sync::Arc, time::Duration};

use serde_json::Value;
use terrace::{
    BoxError, Digest, Error, ErrorKind, Item, Lease, Level, LoadContext, Memory, Result, Tenants, Ttl,
    config::Stack,
};

use crate::{generations::Generations, hash::PartHasher, json::canonical};

/// Which tools the cache may answer, and which ones change what they read.
///
/// ```
/// use std::time::Duration;
/// use terrace_agent::ToolSettings;
///
/// let settings = ToolSettings::new()
///     .reads("get_user", Duration::from_secs(600))
///     .reads("search_flights", Duration::from_secs(60))
///     .writes("update_user", &["get_user"]);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ToolSettings {
    namespace: String,
    deadline: Duration,
    reads: BTreeMap<String, Duration>,
    writes: BTreeMap<String, Vec<String>>,
}

impl Default for ToolSettings {
    fn default() -> Self {
        Self::new()
    }
}

impl ToolSettings {
    /// Settings without a tool, for the namespace `tools`. A tool may run for one minute.
    pub fn new() -> Self {
        let (reads, writes) = (BTreeMap::new(), BTreeMap::new());
        Self { namespace: "tools".to_owned(), deadline: Duration::from_secs(60), reads, writes }
    }

    /// Sets the namespace.
    #[must_use]
    pub fn namespace(mut self, namespace: impl Into<String>) -> Self {
        self.namespace = namespace.into();
        self
    }

    /// Sets how long a tool may run.
    #[must_use]
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// Declares a tool whose call only reads, and whose result is kept for `life`.
    #[must_use]
    pub fn reads(mut self, tool: impl Into<String>, life: Duration) -> Self {
        self.reads.insert(tool.into(), life);
        self
    }

    /// Declares a tool whose call changes what the tools `changes` read.
    #[must_use]
    pub fn writes(mut self, tool: impl Into<String>, changes: &[&str]) -> Self {
        self.writes.insert(tool.into(), changes.iter().map(|tool| (*tool).to_owned()).collect());
        self
    }

    fn check(&self) -> Result<()> {
        if let Some((tool, _)) = self.reads.iter().find(|(_, life)| life.is_zero()) {
            return Err(Error::config(format!("the life of the results of `{tool}` is longer than zero")));
        }
        for (tool, changes) in &self.writes {
            if self.reads.contains_key(tool) {
                return Err(Error::config(format!("the tool `{tool}` is declared to read and to write")));
            }
            if let Some(unknown) = changes.iter().find(|read| !self.reads.contains_key(*read)) {
                let message =
                    format!("`{tool}` changes what `{unknown}` reads, which is not declared to read");
                return Err(Error::config(message));
            }
        }
        Ok(())
    }
}

/// The result of one call of a tool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ToolResult {
    /// What the tool answered.
    pub output: String,
    /// Whether this caller's tool did not run: the cache, or another caller's run, gave the result.
    pub hit: bool,
}

/// A cache of the results of tools. Only calls of tools that are declared to read are kept; every other call runs.
///
/// The key is the tool's name and the canonical JSON of the arguments, so that their order and spacing do not matter.
/// Arguments that are not JSON run and are not kept. A call that writes makes the results of the tools that it changes
/// unreachable, for its tenant and for all processes, whether it succeeds or not.
///
/// # Cost
/// A hit near costs a hash of the arguments and no trip. Concurrent equal calls run the tool once, among all processes
/// that share the stack's Redis or Postgres.
///
/// ```
/// use std::time::Duration;
/// use terrace::config::{Config, Stack};
/// use terrace_agent::{ToolCache, ToolSettings};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> terrace::Result<()> {
/// let settings = ToolSettings::new().reads("get_user", Duration::from_secs(600)).writes("set_user", &["get_user"]);
/// let tools = ToolCache::new(&Stack::new(&Config::in_memory())?, settings)?;
/// let get = || async { Ok::<_, std::io::Error>("Ann".to_owned()) };
/// assert!(!tools.call("agent 1", "get_user", r#"{"id": 7, "full": true}"#, get).await?.hit);
/// assert!(tools.call("agent 1", "get_user", r#"{"full":true,"id":7}"#, get).await?.hit);
/// tools.call("agent 1", "set_user", r#"{"id": 7, "name": "Bea"}"#, get).await?;
/// assert!(!tools.call("agent 1", "get_user", r#"{"full":true,"id":7}"#, get).await?.hit);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct ToolCache(Arc<Inner>);

struct Inner {
    results: Tenants<Digest, String, Memory<Digest, String>>,
    generations: Generations,
    settings: ToolSettings,
}

impl ToolCache {
    /// A cache over the tiers of `stack`.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] for a tool that is declared twice, a life of zero, and a write that changes an unknown
    /// tool.
    pub fn new(stack: &Stack, settings: ToolSettings) -> Result<Self> {
        settings.check().map_err(|error| error.in_cache(&*settings.namespace))?;
        let life = settings.reads.values().max().copied().unwrap_or(Duration::from_secs(1));
        let results = stack
            .builder(&settings.namespace)
            .expire(Ttl::of(life))
            .level(Level::Fenced)
            .stampede(Lease)
            .load_deadline(settings.deadline)
            .build_per_tenant()?;
        let generations = Generations::new(stack, &settings.namespace)?;
        Ok(Self(Arc::new(Inner { results, generations, settings })))
    }

    /// The result of a call of `tool` with these arguments, from the cache or by `run`. A call that runs goes on if its
    /// caller goes away.
    ///
    /// # Errors
    /// [`ErrorKind::Load`] with the error of `run`, which is not kept. [`ErrorKind::Partial`] if the tool has written and a
    /// tier did not confirm that the old results are dropped: results of before may be given until they end.
    pub async fn call<F, Fut, E>(
        &self,
        tenant: &str,
        tool: &str,
        arguments: &str,
        run: F,
    ) -> Result<ToolResult>
    where
        F: FnOnce() -> Fut + Send + 'static,
        Fut: Future<Output = Result<String, E>> + Send + 'static,
        E: Into<BoxError> + Send + 'static,
    {
        let called = self.call_inner(tenant, tool, arguments, run).await;
        called.map_err(|error| error.in_cache(&*self.0.settings.namespace).during("call"))
    }

    async fn call_inner<F, Fut, E>(
        &self,
        tenant: &str,
        tool: &str,
        arguments: &str,
        run: F,
    ) -> Result<ToolResult>
    where
        F: FnOnce() -> Fut + Send + 'static,
        Fut: Future<Output = Result<String, E>> + Send + 'static,
        E: Into<BoxError> + Send + 'static,
    {
        let Some(life) = self.0.settings.reads.get(tool).copied() else {
            return self.run_and_retire(tenant, tool, run).await;
        };
        let Some(key) = self.key(tenant, tool, arguments).await? else {
            let output = run().await.map_err(Error::load)?;
            return Ok(ToolResult { output, hit: false });
        };
        let (ran, mut loader_ran) = tokio::sync::oneshot::channel();
        // The future runs only if no other process gives the result.
        let load = |_: LoadContext<String>| async move {
            let _ = ran.send(());
            run().await.map(|output| Item::new(output).ttl(life))
        };
        let results = self.0.results.tenant(tenant)?;
        let output = results.get_or_load_with(&key, load).await?;
        let output = output.ok_or_else(|| Error::new(ErrorKind::Backend, "the result is an absence"))?;
        Ok(ToolResult { output: String::clone(&output), hit: loader_ran.try_recv().is_err() })
    }

    /// Makes the results of a tool unreachable for a tenant, for a change that did not come through this cache.
    ///
    /// # Errors
    /// [`ErrorKind::Partial`] if a tier did not confirm it.
    pub async fn invalidate(&self, tenant: &str, tool: &str) -> Result<()> {
        self.0.generations.retire(tenant, tool).await
    }

    /// Runs a call that may write, and makes unreachable what it may have changed, in a task of its own.
    async fn run_and_retire<F, Fut, E>(&self, tenant: &str, tool: &str, run: F) -> Result<ToolResult>
    where
        F: FnOnce() -> Fut + Send + 'static,
        Fut: Future<Output = Result<String, E>> + Send + 'static,
        E: Into<BoxError> + Send + 'static,
    {
        let (cache, tenant, tool) = (self.clone(), tenant.to_owned(), tool.to_owned());
        let task = async move {
            // A task of its own, so that a tool that panics retires too: what it did before that is not known.
            let ran = tokio::spawn(async move { run().await.map_err(Error::load) }).await;
            for read in cache.0.settings.writes.get(&tool).into_iter().flatten() {
                cache.0.generations.retire(&tenant, read).await?;
            }
            ran.unwrap_or_else(|_| Err(Error::new(ErrorKind::Panicked, "the tool panicked")))
        };
        match tokio::spawn(task).await {
            Ok(output) => Ok(ToolResult { output: output?, hit: false }),
            Err(_) => Err(Error::new(ErrorKind::Panicked, "the task of the tool ended early")),
        }
    }

    /// The key of a call, or `None` for arguments that have no canonical form.
    async fn key(&self, tenant: &str, tool: &str, arguments: &str) -> Result<Option<Digest>> {
        let canonical = serde_json::from_str::<Value>(arguments).ok().and_then(|value| canonical(&value));
        let Some(canonical) = canonical else { return Ok(None) };
        let mut hasher = PartHasher::new("terrace tool call 1");
        hasher.part(tool.as_bytes());
        hasher.part(&canonical);
        hasher.part(&self.0.generations.of(tenant, tool).await?.to_le_bytes());
        Ok(Some(hasher.digest()))
    }
}

impl fmt::Debug for ToolCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ToolCache").field("settings", &self.0.settings).finish_non_exhaustive()
    }
}
