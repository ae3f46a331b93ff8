//! The arguments of the function that applies operations, one array for each column.

use bytes::Bytes;
use terrace_tier::{Condition, Deadlines, Op, Order, Result, TierKey, Token, Version};

use crate::sql::numbers::{columns, millis, signed};

/// The arguments of the server's function, one array for each column.
#[derive(Default)]
pub(super) struct Arguments<'a> {
    pub(super) digests: Vec<&'a [u8]>,
    pub(super) keys: Vec<&'a [u8]>,
    pub(super) kinds: Vec<&'static str>,
    pub(super) tokens: Vec<Option<i64>>,
    pub(super) seen: Vec<Option<i64>>,
    pub(super) versions: Vec<Option<i64>>,
    pub(super) tombstone_ttls: Vec<Option<i64>>,
    pub(super) deadlines: [Vec<Option<i64>>; 4],
    pub(super) bodies: Vec<Option<&'a [u8]>>,
}

impl<'a> Arguments<'a> {
    pub(super) fn push(&mut self, key: &'a TierKey, op: &'a Op) {
        let number = |version: Version| Some(signed(version.as_u64()));
        let (mut token, mut seen, mut version, mut tombstone_ttl) = (None, None, None, None);
        let (mut deadlines, mut body): (Option<Deadlines>, Option<&'a Bytes>) = (None, None);
        match op {
            Op::Fill { fence, version: loaded, deadlines: until, body: bytes } => {
                (token, seen, version) = (fence_token(fence.token), number(fence.version), number(*loaded));
                (deadlines, body) = (Some(*until), bytes.as_ref());
            }
            Op::Put { order, deadlines: until, body: bytes, tombstone_ttl: ttl } => {
                (deadlines, body, tombstone_ttl) = (Some(*until), bytes.as_ref(), Some(millis(*ttl)));
                match order {
                    Order::Author(Condition::Version(at)) => seen = number(*at),
                    Order::Follow(issued)
                    | Order::Unfenced(issued)
                    | Order::Behind { version: issued, .. } => version = number(*issued),
                    _ => {}
                }
            }
            Op::Invalidate { version: at_least, tombstone_ttl: ttl } => {
                (seen, tombstone_ttl) = (at_least.and_then(number), Some(millis(*ttl)));
            }
            Op::Remove { tombstone_ttl: ttl } => tombstone_ttl = Some(millis(*ttl)),
            Op::Expire { deadlines: until } => deadlines = Some(*until),
            _ => {}
        }
        self.digests.push(&key.digest);
        self.keys.push(&key.bytes);
        self.kinds.push(kind(op).unwrap_or("unknown"));
        self.tokens.push(token);
        self.seen.push(seen);
        self.versions.push(version);
        self.tombstone_ttls.push(tombstone_ttl);
        for (column, times) in self.deadlines.iter_mut().enumerate() {
            times.push(deadlines.map(|deadlines| columns(deadlines)[column]));
        }
        self.bodies.push(body.map(AsRef::as_ref));
    }
}

/// The name of an operation in the server's functions.
///
/// # Errors
/// [`ErrorKind::Unsupported`](terrace_tier::ErrorKind::Unsupported) for an operation or order that a
/// later version of the contract adds.
pub(crate) fn kind(op: &Op) -> Result<&'static str> {
    Ok(match op {
        Op::Get | Op::Lease { .. } => "read",
        Op::Fill { .. } => "fill",
        Op::Put { order: Order::Author(Condition::Always), .. } => "put",
        Op::Put { order: Order::Author(Condition::Absent), .. } => "put_absent",
        Op::Put { order: Order::Author(Condition::Version(_)), .. } => "put_version",
        Op::Put { order: Order::Follow(_), .. } => "put_follow",
        Op::Put { order: Order::Unfenced(_), .. } => "put_unfenced",
        Op::Put { order: Order::Behind { .. }, .. } => "put_behind",
        Op::Invalidate { .. } => "invalidate",
        Op::Remove { .. } => "remove",
        Op::Expire { .. } => "expire",
        unknown => return Err(unknown.unsupported()),
    })
}

/// NULL for no token, so that it equals no token of a cell.
fn fence_token(token: Token) -> Option<i64> {
    (token != Token::NONE).then(|| signed(token.as_u64()))
}
