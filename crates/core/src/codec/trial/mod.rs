//! A type is tried on samples when a cache is built, so that a type which a codec cannot carry is refused
//! there and not at the first value.
//!
//! A sample is a value that the type's own `Deserialize` makes of plain parts: zeros, short texts, options,
//! sequences and maps that are all empty, all full, or full but for one of them, and each variant of an enum.
//! Each sample is encoded, decoded and encoded again, and the names of its fields are recorded on both ways.
//!
//! A type whose `Deserialize` refuses every sample is not tried. Neither are rules of single values, such as
//! a float that is not finite: the codec refuses these when they are encoded.

mod names;
mod recorder;
mod sample;

use std::panic::{AssertUnwindSafe, catch_unwind};

use serde::{Serialize, de::DeserializeOwned};

use super::{Settings, format};
use crate::{Error, ErrorKind, Result};
use names::Names;
use sample::{Content, Notes, Sample};

/// The most kinds of samples. An enum with more variants is tried with as many of them.
const MAX_KINDS: usize = 64;
/// The fewest kinds of samples: one for each number, text and length of bytes.
const MIN_KINDS: usize = super::shape::SAMPLES;
/// The most samples in which one option, sequence or map is empty among full ones.
const MAX_SAMPLES: usize = 512;

/// Checks that a codec carries the samples of `V`.
///
/// # Errors
/// The call fails with [`ErrorKind::Unencodable`] for a type that has samples which do not come back as they
/// were.
///
/// # Cost
/// A sample takes a few microseconds, and there are between 12 and 640 of them.
pub(crate) fn check<V: Serialize + DeserializeOwned>(settings: &Settings) -> Result<()> {
    let names = Names::default();
    let tried = each_sample::<V>(&names, |value| comes_back(value, settings));
    let left_out = names.left_out().filter(|_| !settings.codec.is_self_describing());
    match left_out.or_else(|| names.lost::<V>()) {
        Some(why) => Err(refused(&why)),
        None => tried,
    }
}

/// A field of `V` that only one of `Serialize` and `Deserialize` knows, in words.
pub(crate) fn lost_field<V: Serialize + DeserializeOwned>() -> Option<String> {
    let names = Names::default();
    // Only the names are asked for, and those never fail.
    let _ = each_sample::<V>(&names, |_| Ok(()));
    names.lost::<V>()
}

/// Runs `check` on each sample. Code of the type that panics on a sample is not tried on that sample.
fn each_sample<V: Serialize + DeserializeOwned>(
    names: &Names,
    check: impl Fn(&V) -> Result<()>,
) -> Result<()> {
    let mut left = MAX_SAMPLES;
    let try_one = |kind, content| {
        let notes = Notes::new(kind, names);
        let tried = catch_unwind(AssertUnwindSafe(|| {
            let value = V::deserialize(Sample::new(kind, content, &notes)).ok()?;
            recorder::record(&value, names);
            Some(check(&value))
        }));
        let checked = tried.ok().flatten().unwrap_or(Ok(()));
        checked.map(|()| (notes.variants(), notes.containers()))
    };
    let (mut kinds, mut kind) = (MIN_KINDS, 0);
    while kind < kinds.min(MAX_KINDS) {
        try_one(kind, Content::None)?;
        let (variants, containers) = try_one(kind, Content::Full)?;
        kinds = kinds.max(variants);
        let holes = containers.min(left);
        for hole in 0..holes {
            try_one(kind, Content::FullBut(hole))?;
        }
        left -= holes;
        kind += 1;
    }
    Ok(())
}

/// Encodes a sample, decodes it, and encodes it again.
fn comes_back<V: Serialize + DeserializeOwned>(value: &V, settings: &Settings) -> Result<()> {
    let encode = |value: &V| {
        let mut bytes = Vec::new();
        format::encode(settings.codec, value, &mut bytes, settings.limit_bytes()).map(|()| bytes)
    };
    let first = match encode(value) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == ErrorKind::Unencodable => return Err(refused(&format!("{error:#}"))),
        Err(_too_large) => return Ok(()),
    };
    match format::decode::<V>(settings.codec, &first).map(|value| encode(&value)) {
        Ok(Ok(second)) if second == first => Ok(()),
        _ => Err(refused(
            "a sample of it does not come back as it was: its `Serialize` and `Deserialize` differ, for \
             example by `skip_serializing`, `skip_deserializing` or an attribute that only one of them has",
        )),
    }
}

fn refused(why: &str) -> Error {
    let message = format!("no shared tier can keep values of this type: {why}");
    Error::new(ErrorKind::Unencodable, message)
}
