//! oxcache, which cannot be measured: it stands in the tables with the reason.

use crate::{peer::Peer, work::read_through::Candidate};

/// What is said of it.
pub const PEER: Peer = Peer {
    name: "oxcache",
    package: "oxcache",
    leaves_out: "fences, versions, log, single flight among processes",
};

/// Why it is not measured.
pub const REASON: &str = "0.3.9 takes tokio 1.52 and redis 1.2 alone, and cargo links no others beside them; 0.5 needs \
                          Rust 1.97";

/// Says why it does not read through Redis here.
pub const READ_THROUGH: Candidate = Candidate {
    peer: &PEER,
    usage: "get_or, ChainCache",
    connect: |_place| Box::pin(async { Err(REASON.into()) }),
};
