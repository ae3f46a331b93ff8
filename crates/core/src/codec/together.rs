//! Envelopes of several value types, one behind the other, are the body of one cell.

use bytes::Bytes;

use super::{
    Settings,
    envelope::{Header, Kind},
};
use crate::key::KeyDigest;

/// The most envelopes of one cell. The oldest are left out.
const MAX_ENVELOPES: usize = 4;

/// The envelope of this kind in `body`, else the first one. A body that is not made of whole envelopes is
/// given back as it is.
pub(super) fn select(body: &[u8], kind: Kind) -> &[u8] {
    let mut found = None;
    let (mut rest, mut first) = (body, None);
    while let Some((its, len)) = Header::peek(rest) {
        let (envelope, behind) = rest.split_at(len);
        first = first.or(Some(envelope));
        found = found.or((its == kind).then_some(envelope));
        rest = behind;
    }
    // A later version of the library may have put an envelope of its own format behind the others.
    match rest.is_empty() || Header::begins(rest) {
        true => found.or(first).unwrap_or(body),
        false => body,
    }
}

/// The envelope `ours`, and behind it those of `held` that other value types can read: intact envelopes of
/// the same key, at most three of them, as long as all of them stay within the limit of one value.
///
/// # Cost
/// One pass over `held` for the checksums, and one allocation if anything is added.
pub(crate) fn together(ours: &Bytes, held: &[u8], settings: &Settings, key: KeyDigest) -> Bytes {
    let mut kinds = vec![settings.kind()];
    let mut kept: Vec<&[u8]> = vec![ours];
    let (mut rest, mut bytes) = (held, ours.len());
    while let Some((kind, len)) = Header::peek(rest) {
        let (envelope, behind) = rest.split_at(len);
        rest = behind;
        let is_intact = Header::read(envelope).is_ok_and(|(header, _)| header.key == key);
        let fits = kept.len() < MAX_ENVELOPES && bytes + len <= settings.limit_bytes();
        if is_intact && fits && !kinds.contains(&kind) {
            kinds.push(kind);
            kept.push(envelope);
            bytes += len;
        }
    }
    if kept.len() == 1 { ours.clone() } else { Bytes::from(kept.concat()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::{DecodeError, open, seal};

    const KEY: KeyDigest = [7; 16];

    fn of(schema: u32) -> Settings {
        Settings { schema, ..Settings::of::<String>() }
    }

    fn sealed(schema: u32) -> Bytes {
        seal(&format!("value of {schema}"), &of(schema), KEY).unwrap()
    }

    fn read(body: &[u8], schema: u32) -> Result<String, DecodeError> {
        open(body, &of(schema), KEY)
    }

    #[test]
    fn each_type_reads_its_own_envelope() {
        let body = together(&sealed(2), &sealed(1), &of(2), KEY);
        assert_eq!(read(&body, 1).as_deref(), Ok("value of 1"));
        assert_eq!(read(&body, 2).as_deref(), Ok("value of 2"));
        assert_eq!(read(&body, 3), Err(DecodeError::Schema { found: 2, known: 3 }));
    }

    #[test]
    fn an_envelope_replaces_that_of_its_own_type() {
        let body = together(&sealed(1), &together(&sealed(2), &sealed(1), &of(2), KEY), &of(1), KEY);
        assert_eq!(body.len(), sealed(1).len() + sealed(2).len());
        assert_eq!(read(&body, 2).as_deref(), Ok("value of 2"));
    }

    #[test]
    fn a_cell_has_at_most_four_envelopes_and_the_oldest_are_left_out() {
        let body =
            (1..=6).fold(Bytes::new(), |body, schema| together(&sealed(schema), &body, &of(schema), KEY));
        let readable: Vec<u32> = (1..=6).filter(|schema| read(&body, *schema).is_ok()).collect();
        assert_eq!(readable, [3, 4, 5, 6]);
    }

    #[test]
    fn all_envelopes_stay_within_the_limit_of_one_value() {
        let limit = sealed(1).len() + sealed(2).len();
        for (max_bytes, expected) in [(limit - 1, false), (limit, true)] {
            let body = together(&sealed(2), &sealed(1), &Settings { max_bytes, ..of(2) }, KEY);
            assert_eq!(read(&body, 1).is_ok(), expected, "{max_bytes}");
            assert!(read(&body, 2).is_ok());
        }
    }

    #[test]
    fn broken_and_foreign_envelopes_are_not_kept() {
        let mut flipped = sealed(1).to_vec();
        *flipped.last_mut().unwrap() ^= 1;
        let other_key = seal(&"x".to_owned(), &of(1), [8; 16]).unwrap();
        for held in [&flipped[..], &other_key, b"something else", &sealed(1)[..20], b""] {
            assert_eq!(together(&sealed(2), held, &of(2), KEY), sealed(2));
        }
    }

    #[test]
    fn bytes_behind_an_envelope_that_are_no_envelope_make_it_unreadable() {
        let garbage = [&sealed(1)[..], b"garbage"].concat();
        assert_eq!(read(&garbage, 1), Err(DecodeError::Truncated));
        let mut newer = sealed(2).to_vec();
        newer[4] = 9;
        assert_eq!(read(&[&sealed(1)[..], &newer].concat(), 1).as_deref(), Ok("value of 1"));
    }
}
