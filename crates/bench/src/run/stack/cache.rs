//! The cache of a stack, over one of two near engines.

use std::{sync::Arc, time::Duration};

use terrace::{
    Builder, Cache, Codec, Compression, Memory, Quick, Stats, WriteAround, WriteThrough, config::Stack,
    near::Near,
};

use super::{
    NearEngine, Servers, StackSpec,
    spec::{CodecName, CompressionName, WriteName},
};
use crate::{
    failure::{Failure, Result},
    run::{
        counted::{CallCounters, Counted},
        payload::Payload,
    },
};

/// How long a server may take to be ready.
const READY_WITHIN: Duration = Duration::from_secs(5);

/// A cache over a near engine `N`.
pub(crate) type StackCache<N> = Cache<u64, Payload, N>;

/// The cache of a stack, with the counters of its remote tiers.
pub(crate) struct BuiltCache {
    pub(crate) cache: EitherCache,
    /// The counters of the calls to each backend, by its name.
    pub(crate) calls: Vec<(String, Arc<CallCounters>)>,
}

/// A cache over one of the near engines.
#[derive(Clone)]
pub(crate) enum EitherCache {
    /// Over moka.
    Memory(StackCache<Memory<u64, Payload>>),
    /// Over quick_cache.
    Quick(StackCache<Quick<u64, Payload>>),
}

/// Runs an expression on the cache, whatever its near engine is.
macro_rules! with_cache {
    ($either:expr, $cache:ident => $body:expr) => {
        match $either {
            $crate::run::stack::EitherCache::Memory($cache) => $body,
            $crate::run::stack::EitherCache::Quick($cache) => $body,
        }
    };
}
pub(crate) use with_cache;

impl BuiltCache {
    /// Builds the cache in a namespace of its own and waits until its servers are ready.
    ///
    /// # Errors
    /// Settings that do not fit together, and a server that is away.
    pub(crate) async fn build(spec: &StackSpec, servers: &Servers, namespace: &str) -> Result<Self> {
        let named = |error: Failure| error.during(format_args!("stack {}", spec.name));
        let config = spec.config(|tier| servers.address(tier)).map_err(named)?;
        let mut calls = Vec::new();
        let stack = Stack::new(&config).map_err(|error| named(error.into()))?.wrap_backends(|backend| {
            let counters = Arc::<CallCounters>::default();
            calls.push((backend.name().to_owned(), Arc::clone(&counters)));
            Arc::new(Counted { backend, counters })
        });
        let entries = config.memory.as_ref().map_or(0, |memory| memory.entries);
        let cache = match spec.code.near {
            NearEngine::Memory => {
                let near = if entries == 0 { Memory::off() } else { Memory::entries(entries) };
                build(spec, &stack, namespace, near).map(EitherCache::Memory)
            }
            NearEngine::Quick => {
                build(spec, &stack, namespace, Quick::entries(entries as usize)).map(EitherCache::Quick)
            }
        };
        let cache = cache.map_err(|error| named(error.into()))?;
        let built = Self { cache, calls };
        built.wait_until_ready().await.map_err(named)?;
        built.calls.iter().for_each(|(_, counters)| drop(counters.take()));
        Ok(built)
    }

    async fn wait_until_ready(&self) -> Result<()> {
        let ready = async { with_cache!(&self.cache, cache => cache.ready().await) };
        match tokio::time::timeout(READY_WITHIN, ready).await {
            Ok(ready) => ready.map(drop).map_err(Failure::from),
            Err(_) => {
                let ping = async { with_cache!(&self.cache, cache => cache.ping().await) };
                let why = match tokio::time::timeout(READY_WITHIN, ping).await {
                    Ok(Err(error)) => Failure::from(error),
                    _ => Failure::new("a server does not become ready"),
                };
                Err(why.during(format_args!("not ready after {} s", READY_WITHIN.as_secs())))
            }
        }
    }

    /// The counters of the cache.
    pub(crate) fn stats(&self) -> Stats {
        with_cache!(&self.cache, cache => cache.stats())
    }

    /// Ends the cache and drops what it has left in servers that others use as well.
    pub(crate) async fn close(&self) {
        let cleared = async { with_cache!(&self.cache, cache => cache.clear().await) };
        // A server that a fault has left away keeps its keys until they end.
        let _ = tokio::time::timeout(READY_WITHIN, cleared).await;
        with_cache!(&self.cache, cache => cache.close().await);
    }
}

fn build<N: Near<u64, Payload>>(
    spec: &StackSpec,
    stack: &Stack,
    namespace: &str,
    near: N,
) -> terrace::Result<StackCache<N>> {
    let mut builder: Builder<u64, Payload, N> = match spec.code.records {
        true => stack.records_over(namespace, near)?,
        false => stack.builder_over(namespace, near),
    };
    builder = match spec.code.codec {
        Some(CodecName::Json) => builder.codec(Codec::Json),
        Some(CodecName::Postcard) => builder.codec(Codec::Postcard),
        None => builder,
    };
    builder = match spec.code.compression {
        Some(CompressionName::None) => builder.compression(Compression::None),
        Some(CompressionName::Lz4) => builder.compression(Compression::default()),
        None => builder,
    };
    builder = match spec.code.write {
        Some(WriteName::Around) => builder.write(WriteAround),
        Some(WriteName::Through) => builder.write(WriteThrough),
        None => builder,
    };
    builder.build()
}
