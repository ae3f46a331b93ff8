//! Single reads and writes of a shared tier.

use tokio::task::JoinSet;

use crate::{
    Error, Result,
    data::{KEYS, scattered},
    measure::callers::Work,
};

/// A cache or client that reads and writes records in a server.
pub trait Remote: Clone + Send + Sync + 'static {
    /// Reads the user of this number, which is there, and returns the number in it.
    fn get(&self, n: usize) -> impl Future<Output = Result<u64>> + Send;

    /// Writes the user of this number.
    fn put(&self, n: usize) -> impl Future<Output = Result<()>> + Send;
}

/// Which operation of a [`Remote`] is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RemoteOp {
    /// A read of a key that is there.
    Get,
    /// A write of a key that is there.
    Put,
}

/// Operations on all [`KEYS`].
#[derive(Clone)]
pub struct RemoteWork<R> {
    remote: R,
    op: RemoteOp,
}

impl<R: Remote> RemoteWork<R> {
    /// Writes all [`KEYS`], so that every key is there.
    ///
    /// # Errors
    /// The error of a put.
    pub async fn filled(remote: R, op: RemoteOp) -> Result<Self> {
        const WRITERS: usize = 64;
        let mut tasks = JoinSet::new();
        for writer in 0..WRITERS {
            let remote = remote.clone();
            tasks.spawn(async move {
                for n in (writer..KEYS).step_by(WRITERS) {
                    remote.put(n).await?;
                }
                Ok::<_, Error>(())
            });
        }
        while let Some(task) = tasks.join_next().await {
            task??;
        }
        Ok(Self { remote, op })
    }
}

impl<R: Remote> Work for RemoteWork<R> {
    async fn run(&self, n: usize) -> Result<()> {
        let n = scattered(n);
        match self.op {
            RemoteOp::Put => self.remote.put(n).await,
            RemoteOp::Get if self.remote.get(n).await? == n as u64 => Ok(()),
            RemoteOp::Get => Err("the value is another key's".into()),
        }
    }
}
