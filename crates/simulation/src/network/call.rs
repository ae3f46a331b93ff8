//! A request on its way to a server, and the process that waits for the response.

use std::{
    future::poll_fn,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Poll, Waker},
};

use parking_lot::Mutex;

use crate::message::{Link, Request, Response};

/// One request: it is answered once, if at all.
pub(super) struct Call {
    pub(super) link: Link,
    pub(super) request: Request,
    /// Its caller has given up, or is dead.
    abandoned: AtomicBool,
    settled: Mutex<(Option<Response>, Option<Waker>)>,
}

/// The caller's end of a call.
pub(super) struct Caller(Arc<Call>);

impl Call {
    pub(super) fn new(link: Link, request: Request) -> (Arc<Self>, Caller) {
        let (abandoned, settled) = (AtomicBool::new(false), Mutex::default());
        let call = Arc::new(Self { link, request, abandoned, settled });
        (Arc::clone(&call), Caller(call))
    }

    pub(super) fn is_abandoned(&self) -> bool {
        self.abandoned.load(Ordering::Relaxed)
    }

    pub(super) fn settle(&self, response: Response) {
        let waker = {
            let mut settled = self.settled.lock();
            settled.0 = Some(response);
            settled.1.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl Caller {
    /// Waits for the response; for ever, where a message is lost.
    pub(super) async fn response(self) -> Response {
        poll_fn(|context| {
            let mut settled = self.0.settled.lock();
            match settled.0.take() {
                Some(response) => Poll::Ready(response),
                None => {
                    settled.1 = Some(context.waker().clone());
                    Poll::Pending
                }
            }
        })
        .await
    }
}

/// The server still carries the request out: a caller that gives up calls nothing back.
impl Drop for Caller {
    fn drop(&mut self) {
        self.0.abandoned.store(true, Ordering::Relaxed);
    }
}
