//! A front in a file: a journal keeps each write before it is acknowledged.

use std::{
    future::Future,
    path::PathBuf,
    pin::pin,
    sync::Arc,
    task::{Context as TaskContext, Poll, Wake, Waker},
    thread::{self, Thread},
};

use terrace_journal::{Address, Directory, Journal, JournalError, JournalOptions, Recovered, Write};
use terrace_tier::{TierKey, Version, front_lost};

use super::index::DirtyWrite;
use crate::{Error, ErrorKind, Result, chain::Chain};

/// Where a front keeps what it has acknowledged.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub enum FrontPlace {
    /// The memory of this process.
    #[default]
    Memory,
    /// A journal in this directory, of which one process has the lock.
    File(PathBuf),
    /// A journal in another kind of directory.
    Directory(Arc<dyn Directory>),
}

/// The journal of a front.
pub(super) struct FrontJournal {
    pub(super) journal: Journal,
    pub(super) id: u64,
    /// The nonces of the earlier openings that may have been the last ones.
    pub(super) known: Vec<u64>,
}

/// What a journal had at its opening.
pub(super) struct Restored {
    pub(super) high: Version,
    pub(super) writes: Vec<(DirtyWrite, Option<Error>)>,
}

impl FrontPlace {
    /// Opens the journal, if there is one, and restores what the store does not have. It blocks the caller while
    /// the journal is read.
    pub(super) fn open(
        self,
        namespace: &str,
        chain_of: &dyn Fn(Option<&str>) -> Result<Arc<Chain>>,
    ) -> Result<Option<(FrontJournal, Restored)>> {
        let options = JournalOptions::new(namespace);
        let opened = match self {
            Self::Memory => return Ok(None),
            Self::File(path) => block_on(Journal::open(path.clone(), options)).map_err(|error| {
                Error::new(error.kind(), format!("the journal in {}: {error}", path.display()))
            }),
            Self::Directory(directory) => block_on(Journal::open_in(directory, options)).map_err(typed),
        };
        let (journal, Recovered { writes, high, front, .. }) = opened?;
        let restored = writes.into_iter().map(|recovered| {
            let chain = chain_of(recovered.write.address.tenant.as_deref())?;
            Ok((restored(chain, recovered.write), recovered.dead.map(|cause| dead_cause(&cause))))
        });
        let restored = Restored { high, writes: restored.collect::<Result<_>>()? };
        Ok(Some((FrontJournal { journal, id: front.id, known: front.nonces }, restored)))
    }
}

impl FrontJournal {
    /// Keeps a write. It survives a crash once this has returned.
    pub(super) async fn keep(&self, write: &DirtyWrite) -> Result<()> {
        let kept = self.journal.write(Write {
            address: address(write),
            version: write.version,
            deadlines: write.deadlines,
            envelope: write.body.clone(),
        });
        kept.map_err(typed)?.await.map_err(typed)
    }

    /// Keeps the nonce of an opening before the store is asked.
    pub(super) async fn intend(&self, nonce: u64) -> Result<()> {
        self.journal.intend(nonce).map_err(typed)?.await.map_err(typed)
    }

    /// Keeps the term of an opening.
    pub(super) async fn granted(&self, nonce: u64, term: u64) -> Result<()> {
        self.journal.granted(nonce, term).map_err(typed)?.await.map_err(typed)
    }

    /// The store has the write. If this is lost in a crash, it is flushed once more, which changes nothing.
    pub(super) fn settled(&self, write: &DirtyWrite) {
        let _ = self.journal.settled(address(write), write.version);
    }

    /// The write is a dead letter. If this is lost in a crash, the store refuses it once more.
    pub(super) fn dead(&self, write: &DirtyWrite, cause: &Error) {
        drop(self.journal.dead(address(write), write.version, &cause.to_string()));
    }

    /// The dead letter is an ordinary write again.
    pub(super) fn retried(&self, write: &DirtyWrite) {
        drop(self.journal.retried(address(write), write.version));
    }
}

fn address(write: &DirtyWrite) -> Address {
    Address { tenant: write.chain.tenant_name.as_deref().map(Arc::from), key: write.key.bytes.clone() }
}

/// A write as a journal has kept it. Its copies are dropped at its flush, since nobody knows how long they live.
fn restored(chain: Arc<Chain>, write: Write) -> DirtyWrite {
    let key = TierKey { digest: chain.scope.digest(&write.address.key), bytes: write.address.key };
    let Write { version, deadlines, envelope: body, .. } = write;
    DirtyWrite { key, chain, version, deadlines, copies: None, body }
}

fn dead_cause(cause: &str) -> Error {
    let is_of_lost_front = cause.contains(&format!("{:#}", front_lost()));
    let kind = if is_of_lost_front { ErrorKind::FrontLost } else { ErrorKind::Unsupported };
    Error::new(kind, cause)
}

fn typed(error: JournalError) -> Error {
    Error::new(error.kind(), error.to_string())
}

/// Waits for the journal's own thread, which needs no runtime.
fn block_on<T>(work: impl Future<Output = T>) -> T {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let (mut work, mut context) = (pin!(work), TaskContext::from_waker(&waker));
    loop {
        match work.as_mut().poll(&mut context) {
            Poll::Ready(output) => return output,
            Poll::Pending => thread::park(),
        }
    }
}
