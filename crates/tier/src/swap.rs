//! A fenced tier out of get and compare-and-swap.

use std::{
    fmt::{self, Write as _},
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;

use crate::{
    Backend, Cell, Change, Clock, Epoch, Error, ErrorKind, Moment, Namespace, NamespaceGuard,
    NamespaceRegistry, Op, Reply, Result, Role, Tier, TierKey, Timestamp, transition,
};

/// A place that keeps bytes under a key and can replace them on condition: all that a remote tier
/// of one's own needs. [`Swapping`] makes a fenced [`Backend`] of it.
///
/// A key is made of the letters, digits and `.-_:=@/` of ASCII, at most about 1,200 bytes long, and
/// already names namespace and tenant. Values are opaque: a [`Cell`] as bytes.
///
/// # Errors
/// Each method reports by [`ErrorKind`]; a `swap` that may or may not have happened is
/// [`ErrorKind::Unknown`]. Nothing is retried on an error.
///
/// # Example
/// ```
/// use std::{collections::HashMap, sync::Mutex};
/// use async_trait::async_trait;
/// use bytes::Bytes;
/// use terrace_tier::{Result, Swap, Swapping, Timestamp};
///
/// #[derive(Default)]
/// struct Table(Mutex<HashMap<String, Bytes>>);
///
/// impl Table {
///     fn rows(&self) -> std::sync::MutexGuard<'_, HashMap<String, Bytes>> {
///         self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
///     }
/// }
///
/// #[async_trait]
/// impl Swap for Table {
///     fn name(&self) -> &str {
///         "table"
///     }
///     async fn get(&self, key: &str) -> Result<Option<Bytes>> {
///         Ok(self.rows().get(key).cloned())
///     }
///     async fn swap(&self, key: &str, seen: Option<&Bytes>, new: Bytes, _: Timestamp) -> Result<bool> {
///         let mut rows = self.rows();
///         let same = rows.get(key) == seen;
///         if same {
///             rows.insert(key.to_owned(), new);
///         }
///         Ok(same)
///     }
///     async fn clear(&self, prefix: &str) -> Result<()> {
///         self.rows().retain(|key, _| !key.starts_with(prefix));
///         Ok(())
///     }
///     async fn ping(&self) -> Result<()> {
///         Ok(())
///     }
/// }
///
/// let backend = Swapping::new(Table::default());
/// ```
#[async_trait]
pub trait Swap: Send + Sync + 'static {
    /// The short name of the tier in stats, logs and errors.
    fn name(&self) -> &str;

    /// The bytes under `key`.
    async fn get(&self, key: &str) -> Result<Option<Bytes>>;

    /// Puts `new` under `key` if exactly `seen` is there now (`None`: nothing), in one atomic step,
    /// and says whether it did. From `expires` on it may be forgotten; never much before, but for
    /// want of room. Forgetting early is safe, keeping longer too.
    async fn swap(&self, key: &str, seen: Option<&Bytes>, new: Bytes, expires: Timestamp) -> Result<bool>;

    /// Deletes all keys that start with `prefix`. A key written meanwhile may stay or go.
    async fn clear(&self, prefix: &str) -> Result<()>;

    /// One trip there and back.
    async fn ping(&self) -> Result<()>;
}

/// A [`Backend`] over any [`Swap`]: every operation is a `get`, the pure
/// [`transition`](crate::transition), and a `swap` of what it says.
///
/// One handle serves many caches. It is a cache tier; [`for_records`](Swapping::for_records) permits
/// the role of a store too. Bytes that are no [`Cell`] count as absent and are overwritten.
///
/// # Cost
/// A hit, a miss and a refusal: one `get`. A change: one `get` and one `swap`, again for each time
/// that another writer of the key was faster; after 24 of them [`ErrorKind::Busy`].
pub struct Swapping<S> {
    shared: Arc<Shared<S>>,
    records: bool,
}

struct Shared<S> {
    swap: S,
    clock: Clock,
    spaces: NamespaceRegistry,
}

impl<S: Swap> Swapping<S> {
    /// A cache tier over `swap`, on the host's clock.
    pub fn new(swap: S) -> Self {
        Self::with_clock(swap, Clock::system())
    }

    /// A cache tier over `swap` on this clock.
    pub fn with_clock(swap: S, clock: Clock) -> Self {
        let shared = Shared { swap, clock, spaces: NamespaceRegistry::default() };
        Self { shared: Arc::new(shared), records: false }
    }

    /// Permits the role of a store. The `Swap` must then keep what it took: no eviction, no loss in
    /// a restart.
    #[must_use]
    pub fn for_records(self) -> Self {
        Self { records: true, ..self }
    }

    /// What it was made over.
    pub fn get_ref(&self) -> &S {
        &self.shared.swap
    }
}

impl<S> Clone for Swapping<S> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared), records: self.records }
    }
}

impl<S: Swap> fmt::Debug for Swapping<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Swapping").field("over", &self.shared.swap.name()).finish()
    }
}

impl<S: Swap> Backend for Swapping<S> {
    fn name(&self) -> &str {
        self.shared.swap.name()
    }

    fn open(&self, space: &Namespace) -> Result<Arc<dyn Tier>> {
        if space.role == Role::Store && !self.records {
            let message = "this tier may forget, so it cannot be a store (see `Swapping::for_records`)";
            return Err(Error::config(message).at_tier(self.name()));
        }
        let claim = self.shared.spaces.claim(space)?;
        let shared = Arc::clone(&self.shared);
        let prefix = prefix(space);
        let cleared = match space.tenant {
            Some(_) => prefix.clone(),
            None => prefix[..prefix.len() - 1].to_owned(),
        };
        Ok(Arc::new(SwapTier { shared, prefix, cleared, role: space.role, claim }))
    }
}

/// `clear` deletes, and absence rejects a fill: one epoch is enough.
const EPOCH: Epoch = Epoch::from_u64(1);

/// Swaps lost to other writers of the key before an operation gives up, and how many of them
/// follow each other at once.
const ATTEMPTS: u32 = 24;
const EAGER_ATTEMPTS: u32 = 4;

/// The tier of one namespace.
struct SwapTier<S> {
    shared: Arc<Shared<S>>,
    prefix: String,
    /// What a clear reaches: that of all tenants, where it is no tenant's.
    cleared: String,
    role: Role,
    claim: NamespaceGuard,
}

impl<S: Swap> fmt::Debug for SwapTier<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("SwapTier");
        out.field("over", &self.shared.swap.name()).field("prefix", &self.prefix).field("claim", &self.claim);
        out.finish()
    }
}

#[async_trait]
impl<S: Swap> Tier for SwapTier<S> {
    async fn apply(&self, key: &TierKey, op: Op) -> Result<Reply> {
        op.ensure_known()?;
        let key = self.address(key);
        for attempt in 0..ATTEMPTS {
            pause_before(attempt).await;
            if let Some(reply) = self.attempt(&key, &op).await? {
                return Ok(reply);
            }
        }
        let message = format!("other writers of the key were faster {ATTEMPTS} times; nothing was done");
        Err(Error::new(ErrorKind::Busy, message).at_tier(self.shared.swap.name()))
    }

    async fn clear(&self) -> Result<()> {
        match self.role {
            Role::Cache => self.shared.swap.clear(&self.cleared).await,
            Role::Store => Ok(()),
        }
    }

    async fn ping(&self) -> Result<()> {
        self.shared.swap.ping().await
    }
}

impl<S: Swap> SwapTier<S> {
    /// One try; `None` if another writer was faster.
    async fn attempt(&self, key: &str, op: &Op) -> Result<Option<Reply>> {
        let seen = self.shared.swap.get(key).await?;
        let cell = seen.clone().and_then(Cell::decode);
        let (change, reply) = transition(cell.as_ref(), op, &self.moment());
        let Change::Write(next) = change else {
            return Ok(Some(reply));
        };
        if cell.as_ref() == Some(&next) {
            return Ok(Some(reply));
        }
        // The numbers of a dead record are what refuses a late fill: a store keeps them.
        let expires = match self.role {
            Role::Cache => next.deadlines.expires_at,
            Role::Store => Timestamp::NEVER,
        };
        let swapped = self.shared.swap.swap(key, seen.as_ref(), next.encode(), expires).await?;
        Ok(swapped.then_some(reply))
    }

    fn moment(&self) -> Moment {
        let clock = &self.shared.clock;
        Moment { role: self.role, now: clock.now(), micros: clock.micros(), epoch: EPOCH }
    }

    fn address(&self, key: &TierKey) -> String {
        let mut address = String::with_capacity(self.prefix.len() + 32);
        address.push_str(&self.prefix);
        key.digest.iter().for_each(|byte| push_hex(&mut address, *byte));
        address
    }
}

/// Contention is short: a few tries at once, then a random wait of up to 4 ms before each.
async fn pause_before(attempt: u32) {
    if attempt > EAGER_ATTEMPTS {
        tokio::time::sleep(Duration::from_micros(fastrand::u64(0..4000))).await;
    } else if attempt > 0 {
        tokio::task::yield_now().await;
    }
}

/// `namespace//` without a tenant, `namespace/@tenant/` with one: no prefix of one is a prefix of
/// another, since a slash within a name is escaped; `namespace/` is one of them all.
fn prefix(space: &Namespace) -> String {
    let mut out = String::new();
    push_escaped(&mut out, &space.name);
    out.push('/');
    if let Some(tenant) = &space.tenant {
        out.push('@');
        push_escaped(&mut out, tenant);
    }
    out.push('/');
    out
}

fn push_escaped(out: &mut String, name: &str) {
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || b".-_:".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push('=');
            push_hex(out, byte);
        }
    }
}

fn push_hex(out: &mut String, byte: u8) {
    // Writing to a string cannot fail.
    let _ = write!(out, "{byte:02x}");
}
