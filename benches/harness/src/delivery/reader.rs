//! The parent process, which reads all keys until it has seen every write.

use std::time::Duration;

use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::Child,
    time::{Instant, sleep},
};

use super::{KEYS, PAUSE, micros, stack::Stack};
use crate::{Result, measure::latency::Micros};

/// How long after the last new value a missing write counts as late and not as lost.
const PATIENCE: Duration = Duration::from_secs(10);

/// For each key, its values and when the reader first saw each.
pub(super) type Seen = Vec<Vec<(u64, u64)>>;

/// Reads all keys, in one call at a time, until each key has shown the child's last value.
pub(super) async fn read(cache: &Stack, last: u64) -> Result<Seen> {
    let keys: Vec<i64> = (0..KEYS.cast_signed()).collect();
    let mut seen: Seen = vec![Vec::new(); KEYS as usize];
    let mut progress = Instant::now();
    while seen.iter().any(|seen| seen.last().is_none_or(|(value, _)| *value < last)) {
        let values = cache.get_many(&keys).await.into_values()?;
        let now = micros();
        for (seen, value) in seen.iter_mut().zip(values) {
            let value = value.ok_or("a key is missing")?.cast_unsigned();
            let before = seen.last().map_or(0, |(value, _)| *value);
            if value < before {
                return Err(format!("{value} was read after {before}").into());
            }
            if value > before {
                seen.push((value, now));
                progress = Instant::now();
            }
        }
        if progress.elapsed() > PATIENCE {
            return Err("a write was not read within ten seconds".into());
        }
        sleep(PAUSE).await;
    }
    Ok(seen)
}

/// For each write, the time from its acknowledgement to the first read of its value or of a later one.
pub(super) async fn lateness(child: &mut Child, seen: &Seen) -> Result<Vec<Micros>> {
    let mut lines = BufReader::new(child.stdout.take().ok_or("the child has no output")?).lines();
    let mut late = Vec::new();
    while let Some(line) = lines.next_line().await? {
        let numbers: Vec<u64> = line.split(' ').filter_map(|word| word.parse().ok()).collect();
        let [key, value, at] = numbers[..] else { continue };
        let read = seen.get(key as usize).and_then(|seen| seen.iter().find(|(seen, _)| *seen >= value));
        let (_, read_at) = read.ok_or("a write was never read")?;
        late.push(Micros(read_at.saturating_sub(at)));
    }
    if child.wait().await?.success() { Ok(late) } else { Err("the writer failed".into()) }
}
