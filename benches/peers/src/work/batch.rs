//! Reads and writes of many keys in one call.

use crate::{
    Result,
    data::{BATCH, KEYS, new_key, scattered},
    measure::callers::Work,
};

/// A cache or client that reads and writes many keys at once.
pub trait Batch: Clone + Send + Sync + 'static {
    /// Reads the users of these numbers and returns the numbers in them; users that are not there are left out.
    fn get_many(&self, numbers: &[usize]) -> impl Future<Output = Result<Vec<u64>>> + Send;

    /// Writes the users of these numbers.
    fn put_many(&self, numbers: &[usize]) -> impl Future<Output = Result<()>> + Send;

    /// As `get_many`; one load gives all that are not there, at once.
    fn get_or_load_many(&self, numbers: &[usize]) -> impl Future<Output = Result<Vec<u64>>> + Send;

    /// Waits for the fills that go on in the background.
    fn settle(&self) -> impl Future<Output = ()> + Send {
        async {}
    }
}

/// Which operation of a [`Batch`] is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BatchOp {
    /// A read of keys that are there.
    GetMany,
    /// A write of keys that are there.
    PutMany,
    /// A read of keys that were never read.
    GetOrLoadMany,
}

/// Operations on [`BATCH`] keys each.
#[derive(Clone)]
pub struct BatchWork<B> {
    batch: B,
    op: BatchOp,
}

impl<B: Batch> BatchWork<B> {
    /// Writes all keys, so that every key is there.
    ///
    /// # Errors
    /// The error of a put.
    pub async fn filled(batch: B, op: BatchOp) -> Result<Self> {
        let numbers: Vec<usize> = (0..KEYS).collect();
        for numbers in numbers.chunks(BATCH) {
            batch.put_many(numbers).await?;
        }
        Ok(Self { batch, op })
    }
}

impl<B: Batch> Work for BatchWork<B> {
    async fn run(&self, n: usize) -> Result<()> {
        let numbers: Vec<usize> = match self.op {
            BatchOp::GetOrLoadMany => (0..BATCH).map(|_| new_key()).collect(),
            BatchOp::GetMany | BatchOp::PutMany => (0..BATCH).map(|at| scattered(n * BATCH + at)).collect(),
        };
        let found = match self.op {
            BatchOp::PutMany => return self.batch.put_many(&numbers).await,
            BatchOp::GetMany => self.batch.get_many(&numbers).await?,
            BatchOp::GetOrLoadMany => self.batch.get_or_load_many(&numbers).await?,
        };
        let same = |(found, n): (&u64, &usize)| *found == *n as u64;
        let all = found.len() == BATCH && found.iter().zip(&numbers).all(same);
        if all { Ok(()) } else { Err("the users are not those of the batch".into()) }
    }

    async fn settle(&self) {
        self.batch.settle().await;
    }
}
