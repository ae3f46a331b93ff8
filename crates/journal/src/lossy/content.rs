//! The bytes of a file in a [`LossyDirectory`](super::LossyDirectory).

use fastrand::Rng;

const SECTOR: usize = 512;

#[derive(Debug, Default)]
pub(super) struct Content {
    pub(super) bytes: Vec<u8>,
    durable: Vec<u8>,
    /// From where on a failed sync has made bytes of no use, and up to where.
    lost: Vec<(usize, usize)>,
}

impl Content {
    pub(super) fn sync(&mut self) {
        self.durable = self.written();
    }

    /// The bytes that were not synced are not written by later syncs either.
    pub(super) fn fail_to_sync(&mut self) {
        let len = self.bytes.len();
        self.lost.push((self.durable.len().min(len), len));
    }

    pub(super) fn truncate(&mut self, len: usize) {
        self.bytes.truncate(len);
        let len = self.bytes.len();
        self.lost.retain(|(from, _)| *from < len);
    }

    pub(super) fn damage(&mut self, offset: usize) {
        for bytes in [&mut self.bytes, &mut self.durable] {
            bytes.iter_mut().skip(offset).take(1).for_each(|byte| *byte = !*byte);
        }
    }

    /// What a sync now makes durable.
    fn written(&self) -> Vec<u8> {
        let mut bytes = self.bytes.clone();
        for (from, to) in &self.lost {
            let to = (*to).min(bytes.len());
            bytes.get_mut(*from..to).into_iter().for_each(|lost| lost.fill(0));
        }
        bytes
    }

    pub(super) fn lose(&mut self, rng: &mut Rng) {
        let (written, durable) = (self.written(), self.durable.len());
        let kept = match rng.u8(0..4) {
            0 => self.durable.clone(),
            1 => written,
            _ if written.len() > durable => torn(written, durable, rng),
            _ => self.durable.clone(),
        };
        *self = Self { bytes: kept.clone(), durable: kept, lost: Vec::new() };
    }
}

/// Some of the bytes after `durable`, some of whose sectors were never written.
fn torn(mut bytes: Vec<u8>, durable: usize, rng: &mut Rng) -> Vec<u8> {
    bytes.truncate(rng.usize(durable..=bytes.len()));
    let mut from = durable;
    while from < bytes.len() {
        let to = ((from / SECTOR + 1) * SECTOR).min(bytes.len());
        if rng.u8(0..4) == 0 {
            bytes[from..to].fill(0);
        }
        from = to;
    }
    bytes
}
