//! Counts the lines by which a cache says that a tier does not serve it, and that it is back.

use std::{
    fmt::Debug,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use tracing::{
    Event, Level, Metadata, Subscriber,
    field::{Field, Visit},
    span,
};

use crate::Result;

/// The lines of this process since the last question.
#[derive(Clone, Default)]
pub(super) struct Lines(Arc<Counts>);

#[derive(Default)]
struct Counts {
    warned: AtomicU64,
    back: AtomicU64,
}

impl Lines {
    /// Counts from now on.
    pub(super) fn count() -> Result<Self> {
        let lines = Self::default();
        tracing::subscriber::set_global_default(lines.clone())?;
        Ok(lines)
    }

    /// The warnings and the lines 'back' since the last call.
    pub(super) fn take(&self) -> (u64, u64) {
        (self.0.warned.swap(0, Ordering::Relaxed), self.0.back.swap(0, Ordering::Relaxed))
    }
}

impl Subscriber for Lines {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= Level::INFO && metadata.target().starts_with("terrace")
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut message = Message(String::new());
        event.record(&mut message);
        if message.0.contains("does not serve the cache") {
            self.0.warned.fetch_add(1, Ordering::Relaxed);
        } else if message.0.contains("the tier is back") {
            self.0.back.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

struct Message(String);

impl Visit for Message {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        if field.name() == "message" {
            self.0 = format!("{value:?}");
        }
    }
}
