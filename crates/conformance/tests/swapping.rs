//! A tier made by `Swapping` passes the suite.

use std::{collections::HashMap, sync::Arc};

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use terrace_conformance::suite::Subject;
use terrace_core::{Result, Swap, Swapping, Timestamp};

#[derive(Clone, Default)]
struct Table(Arc<Mutex<HashMap<String, Bytes>>>);

#[async_trait]
impl Swap for Table {
    fn name(&self) -> &str {
        "table"
    }

    async fn get(&self, key: &str) -> Result<Option<Bytes>> {
        tokio::task::yield_now().await;
        Ok(self.0.lock().get(key).cloned())
    }

    async fn swap(&self, key: &str, seen: Option<&Bytes>, new: Bytes, _: Timestamp) -> Result<bool> {
        tokio::task::yield_now().await;
        let mut rows = self.0.lock();
        let same = rows.get(key) == seen;
        if same {
            rows.insert(key.to_owned(), new);
        }
        Ok(same)
    }

    async fn clear(&self, prefix: &str) -> Result<()> {
        self.0.lock().retain(|key, _| !key.starts_with(prefix));
        Ok(())
    }

    async fn ping(&self) -> Result<()> {
        Ok(())
    }
}

async fn table() -> Subject {
    let table = Table::default();
    let rows = table.clone();
    Subject::new(Swapping::new(table.clone()).for_records()).second(Swapping::new(table).for_records()).evict(
        move |_, key| {
            let digest: String = key.digest.iter().map(|byte| format!("{byte:02x}")).collect();
            rows.0.lock().retain(|row, _| !row.ends_with(&digest));
            Box::pin(async {})
        },
    )
}

terrace_conformance::tier_suite!(table);
terrace_conformance::tier_suite!(table, evict);
