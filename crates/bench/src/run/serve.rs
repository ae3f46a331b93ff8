//! One request to a cache.

use std::{convert::Infallible, time::Duration};

use terrace::{Result, Source, near::Near};

use super::{payload::Payload, stack::StackCache};
use crate::workload::{Action, Request};

/// The origin behind the cache: it makes a value of any key after a while.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Origin {
    /// How long a load takes.
    pub(crate) delay: Duration,
}

impl Origin {
    async fn load(self, request: Request) -> Result<Payload, Infallible> {
        if !self.delay.is_zero() {
            tokio::time::sleep(self.delay).await;
        }
        Ok(Payload::of(request.key, request.bytes))
    }
}

/// Sends a request. A read says who answered it.
#[inline]
pub(super) async fn serve<N: Near<u64, Payload>>(
    cache: &StackCache<N>,
    origin: Origin,
    request: &Request,
) -> Result<Option<Source>> {
    match request.action {
        Action::Read => {
            let request = *request;
            let read = cache.get_or_load(&request.key, move || origin.load(request)).await?;
            Ok(Some(read.served().from.clone()))
        }
        Action::Write => {
            cache.put(&request.key, Payload::of(request.key, request.bytes)).await.map(|_version| None)
        }
        Action::Remove => cache.remove(&request.key).await.map(|_existed| None),
        Action::Invalidate => cache.invalidate(&request.key).await.map(|_existed| None),
    }
}
