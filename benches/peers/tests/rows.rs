//! A row runs, and its table says of each side what the peer leaves out.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use terrace_peers::{
    measure::effort::Effort,
    peers::{ALL, READ_THROUGHS, crowds, oxcache},
    report::{
        markdown::markdown,
        table::{Cell, Table},
        text::text,
        versions,
    },
    rows::ROWS,
};

fn measured(name: &str) -> Table {
    let row = ROWS.iter().find(|row| row.name == name).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on((row.run)(Effort { rounds: 1, quick: true })).unwrap()
}

#[test]
fn every_peer_says_what_it_leaves_out_and_has_a_version() {
    for peer in ALL {
        assert!(!peer.leaves_out.is_empty(), "{}", peer.name);
        let measured = peer.package != oxcache::PEER.package;
        assert_eq!(versions::version(peer.package).is_some(), measured, "{}", peer.package);
    }
    let candidates = READ_THROUGHS.iter().chain(crowds());
    assert!(candidates.into_iter().all(|candidate| ALL.contains(&candidate.peer)));
}

#[test]
fn a_short_run_of_a_row_measures_each_side_and_says_what_it_leaves_out() {
    let table = measured("near-hit");
    let (for_terminal, for_document) = (text(&table), markdown(&table, "Origin."));
    for line in &table.lines {
        assert!(ALL.contains(&line.peer), "{}", line.peer.name);
        assert_eq!(line.cells.len(), table.columns.len());
        let absent = line.cells.iter().find(|cell| matches!(cell, Cell::Absent(_)));
        assert_eq!(
            absent.is_some(),
            line.peer == &oxcache::PEER,
            "{} {}: {absent:?}",
            line.peer.name,
            line.usage
        );
        for text in [&for_terminal, &for_document] {
            let mut lines = text.lines().filter(|text| text.contains(&line.usage));
            assert!(lines.any(|text| text.contains(line.peer.leaves_out)), "{text}");
        }
    }
    assert!(table.lines.iter().any(|line| line.peer.package == "terrace"));
}
