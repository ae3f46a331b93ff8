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

/// A server that keeps bytes under a key and can compare-and-swap them. That is all that a new remote
/// tier needs: [`Swapping`] makes a fenced [`Backend`] of it.
///
/// A key consists of ASCII letters, digits and `.-_:=@/`, and has at most about 1,200 bytes. It already
/// names the namespace and the tenant. A value is opaque: it is a [`Cell`] as bytes.
///
/// # Errors
/// Each method reports its errors by [`ErrorKind`]. A `swap` that may or may not have happened is
/// [`ErrorKind::Unknown`]. Nothing is retried after an error.
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
    /// The short name of the tier in stats, logs and errors, such as `table`.
    fn name(&self) -> &str;

    /// The bytes under `key`, or `None`.
    async fn get(&self, key: &str) -> Result<Option<Bytes>>;

    /// Puts `new` under `key` if exactly `seen` is there now (`None` means nothing), in one atomic step.
    /// Returns whether it did.
    ///
    /// The entry may be forgotten from `expires` on, and earlier only for want of memory. It is safe to
    /// forget it early and to keep it longer.
    async fn swap(&self, key: &str, seen: Option<&Bytes>, new: Bytes, expires: Timestamp) -> Result<bool>;

    /// Deletes all keys that start with `prefix`. A key that is written meanwhile may stay or go.
    async fn clear(&self, prefix: &str) -> Result<()>;

    /// Makes one round trip to the server, to see that it answers.
    async fn ping(&self) -> Result<()>;
}

/// A [`Backend`] over any [`Swap`]. Every operation is a `get`, a call of the pure function
/// [`transition`](crate::transition), and a `swap` to the cell that the function gives.
///
/// One handle serves many caches. Its tiers are cache tiers; [`for_records`](Swapping::for_records)
/// permits the role of a store too. Bytes that are no [`Cell`] count as absent and are overwritten.
///
/// # Errors
/// The errors of the [`Swap`], and [`ErrorKind::Busy`] where other writers of the key were faster 24 times.
///
/// # Cost
/// A hit, a miss and a refusal take one `get`. A change takes one `get` and one `swap`, and both again each
/// time that another writer of the key was faster.
pub struct Swapping<S> {
    shared: Arc<Shared<S>>,
    records: bool,
}

struct Shared<S> {
    swap: S,
    clock: Clock,
    registry: NamespaceRegistry,
}

impl<S: Swap> Swapping<S> {
    /// A cache tier over `swap`, on the host's clock.
    pub fn new(swap: S) -> Self {
        Self::with_clock(swap, Clock::system())
    }

    /// A cache tier over `swap` on this clock.
    pub fn with_clock(swap: S, clock: Clock) -> Self {
        let shared = Shared { swap, clock, registry: NamespaceRegistry::default() };
        Self { shared: Arc::new(shared), records: false }
    }

    /// Permits the role of a store. The `Swap` must then keep what it took, without eviction and without
    /// loss in a restart.
    #[must_use]
    pub fn for_records(self) -> Self {
        Self { records: true, ..self }
    }

    /// The [`Swap`] that the backend was made over.
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

    fn open(&self, namespace: &Namespace) -> Result<Arc<dyn Tier>> {
        if namespace.role == Role::Store && !self.records {
            let message = "this tier may forget, so it cannot be a store (see `Swapping::for_records`)";
            return Err(Error::config(message).at_tier(self.name()));
        }
        let guard = self.shared.registry.claim(namespace)?;
        let shared = Arc::clone(&self.shared);
        let prefix = prefix(namespace);
        let cleared_prefix = match namespace.tenant {
            Some(_) => prefix.clone(),
            None => prefix[..prefix.len() - 1].to_owned(),
        };
        Ok(Arc::new(SwapTier { shared, prefix, cleared_prefix, role: namespace.role, guard }))
    }
}

/// One epoch is enough: `clear` deletes the cells, and a fill is refused where there is no cell.
const EPOCH: Epoch = Epoch::from_u64(1);

/// How many swaps an operation may lose to other writers of the key before it gives up.
const ATTEMPTS: u32 = 24;
/// How many of them follow each other without a pause.
const EAGER_ATTEMPTS: u32 = 4;

/// The tier of one namespace.
struct SwapTier<S> {
    shared: Arc<Shared<S>>,
    prefix: String,
    /// The prefix of what a clear deletes: all tenants, where the tier was opened without one.
    cleared_prefix: String,
    role: Role,
    guard: NamespaceGuard,
}

impl<S: Swap> fmt::Debug for SwapTier<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("SwapTier");
        out.field("over", &self.shared.swap.name()).field("prefix", &self.prefix).field("guard", &self.guard);
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
            Role::Cache => self.shared.swap.clear(&self.cleared_prefix).await,
            Role::Store => Ok(()),
        }
    }

    async fn ping(&self) -> Result<()> {
        self.shared.swap.ping().await
    }
}

impl<S: Swap> SwapTier<S> {
    /// One attempt. `None` if another writer was faster.
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
        // A store keeps a dead record too, since its version refuses a late fill.
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

/// Contention is short: the first attempts follow at once, and a random wait of up to 4 ms precedes each
/// of the others.
async fn pause_before(attempt: u32) {
    if attempt > EAGER_ATTEMPTS {
        tokio::time::sleep(Duration::from_micros(fastrand::u64(0..4000))).await;
    } else if attempt > 0 {
        tokio::task::yield_now().await;
    }
}

/// `namespace//` without a tenant, `namespace/@tenant/` with one. No such prefix begins with another one,
/// since a slash within a name is escaped. All prefixes of a namespace begin with `namespace/`.
fn prefix(namespace: &Namespace) -> String {
    let mut out = String::new();
    push_escaped(&mut out, &namespace.name);
    out.push('/');
    if let Some(tenant) = &namespace.tenant {
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
