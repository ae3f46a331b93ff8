//! Operations on many cells in few calls and few round trips.

use std::sync::Arc;

use redis::{Pipeline, Value};
use terrace_tier::Result;

use super::{
    Call, Script, ScriptCall,
    cells::{CellCall, CellOp},
    is_unknown_script,
};
use crate::{
    connection::ConnectionManager,
    error::{Effect, unexpected_reply},
};

/// The most cells in one call of a script, which takes less than a millisecond of the server's time: the server
/// serves nobody else meanwhile.
pub(crate) const CALL_CELLS: usize = 128;
/// About the most bytes in one call.
pub(crate) const CALL_BYTES: usize = 1 << 20;
/// The most cells of one round trip. A longer one would delay all other callers.
const TRIP_CELLS: usize = 512;
/// About the most bytes of one round trip.
const TRIP_BYTES: usize = 4 << 20;

/// The end of each round trip, for operations of these sizes in bytes.
pub(crate) fn trip_ends(sizes: impl Iterator<Item = usize>) -> Vec<usize> {
    ends(sizes, TRIP_CELLS, TRIP_BYTES)
}

/// Sends operations of one kind in one round trip, or in two if the server does not know the script. One value for
/// each operation, in order, which may be [`Value::ServerError`].
pub(crate) async fn send_cells(
    manager: &Arc<ConnectionManager>,
    script: Script,
    ops: &[CellOp],
    effect: Effect,
) -> Result<Vec<Value>> {
    let mut calls = Vec::new();
    let mut start = 0;
    for end in ends(ops.iter().map(CellOp::size), CALL_CELLS, CALL_BYTES) {
        calls.push(CellCall { script, ops: &ops[start..end] });
        start = end;
    }
    let answers = send_scripts(manager, &calls, effect).await?;
    let mut values = Vec::with_capacity(ops.len());
    for (call, answer) in calls.iter().zip(answers) {
        match answer {
            Value::Array(replies) if replies.len() == call.ops.len() => values.extend(replies),
            // A script stops at the first command that the server refuses, and then none of its cells has a reply.
            Value::ServerError(answer) => {
                values.extend(call.ops.iter().map(|_| Value::ServerError(answer.clone())));
            }
            _ => return Err(unexpected_reply()),
        }
    }
    Ok(values)
}

/// Sends one operation, in one round trip, or in two if the server does not know the script.
pub(crate) async fn send_cell(
    manager: &Arc<ConnectionManager>,
    script: Script,
    op: CellOp,
    effect: Effect,
) -> Result<Value> {
    let call = CellCall { script, ops: std::slice::from_ref(&op) };
    match call.run(manager, effect).await? {
        Value::Array(mut replies) if replies.len() == 1 => replies.pop().ok_or_else(unexpected_reply),
        refused @ Value::ServerError(_) => Ok(refused),
        _ => Err(unexpected_reply()),
    }
}

/// Sends calls of one script, in as many round trips as their number needs. One value for each call, in order,
/// which may be [`Value::ServerError`].
pub(crate) async fn send_calls(
    manager: &Arc<ConnectionManager>,
    calls: &[Call],
    effect: Effect,
) -> Result<Vec<Value>> {
    let mut values = Vec::with_capacity(calls.len());
    for trip in calls.chunks(TRIP_CELLS) {
        values.extend(send_scripts(manager, trip, effect).await?);
    }
    Ok(values)
}

/// Sends calls of one script in one round trip, or in two if the server does not know the script.
async fn send_scripts(
    manager: &Arc<ConnectionManager>,
    calls: &[impl ScriptCall],
    effect: Effect,
) -> Result<Vec<Value>> {
    let mut commands = Pipeline::with_capacity(calls.len());
    for call in calls {
        commands.add_command(call.by_hash());
    }
    let mut values = manager.send_many(&commands, effect).await?;
    let unknown: Vec<usize> = (0..values.len()).filter(|at| is_unknown_script(&values[*at])).collect();
    if let Some((first, others)) = unknown.split_first() {
        // The first call brings the script, and the server then knows it for the others.
        let mut again = Pipeline::with_capacity(unknown.len());
        again.add_command(calls[*first].in_full());
        for at in others {
            again.add_command(calls[*at].by_hash());
        }
        let late = manager.send_many(&again, effect).await?;
        for (at, value) in unknown.into_iter().zip(late) {
            values[at] = value;
        }
    }
    Ok(values)
}

/// The end of each part, for operations of these sizes in bytes.
fn ends(sizes: impl Iterator<Item = usize>, most: usize, most_bytes: usize) -> Vec<usize> {
    let (mut ends, mut count, mut bytes, mut at) = (Vec::new(), 0, 0, 0);
    for size in sizes {
        if count > 0 && (count == most || bytes + size > most_bytes) {
            ends.push(at);
            (count, bytes) = (0, 0);
        }
        (count, bytes, at) = (count + 1, bytes + size, at + 1);
    }
    if count > 0 {
        ends.push(at);
    }
    ends
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_bounded_in_operations_and_bytes() {
        let mebi = 1 << 20;
        let ends = |sizes: &[usize]| ends(sizes.iter().copied(), 512, 4 * mebi);
        assert_eq!(ends(&[]), Vec::<usize>::new());
        assert_eq!(ends(&[10; 100]), [100]);
        assert_eq!(ends(&[10; 1_100]), [512, 1_024, 1_100]);
        assert_eq!(ends(&[mebi; 9]), [4, 8, 9]);
        assert_eq!(ends(&[9 * mebi, 1]), [1, 2]);
    }
}
