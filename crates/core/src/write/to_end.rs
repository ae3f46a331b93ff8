//! A write goes on to its end, whatever becomes of its caller.

use futures_util::future::Either;

use crate::{Key, Result, Value, cache::Inner, chain::Chain, near::Near, panics::joined};

impl<K: Key, V: Value, N: Near<K, V>> Inner<K, V, N> {
    /// Runs a write through these tiers. Its caller polls it where nobody waits for a call that is held, and a task
    /// of its own otherwise. A panic of the write, and the end of its runtime, are typed errors.
    ///
    /// This function is no async function, which would hold the write twice.
    pub(crate) fn to_end<F>(
        &self,
        chain: &Chain,
        write: F,
    ) -> impl Future<Output = Result<F::Output>> + use<K, V, N, F>
    where
        F: Future<Output: Send> + Send + 'static,
    {
        let started = match chain.far_to_near().all(|slot| slot.may_be_held()) {
            true => Either::Left(self.tasks.run(write)),
            false => Either::Right(self.tasks.spawn(write)),
        };
        async move {
            match started {
                Either::Left(work) => work?.await,
                Either::Right(task) => joined(task).await,
            }
        }
    }
}
