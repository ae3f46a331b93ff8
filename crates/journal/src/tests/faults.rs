//! Calls of the file system that fail.

use std::{io, sync::Arc};

use bytes::Bytes;
use terrace_tier::{Deadlines, Timestamp, Version};

use super::program::{Program, SEGMENT, Violation};
use crate::{
    Address, Call, Directory as _, JournalError, LossyDirectory, Recovered, Write, frame::Frame, log::Log,
};

fn open(directory: &LossyDirectory) -> (Log, Recovered) {
    Log::open(Arc::new(directory.clone()), Program::options()).unwrap()
}

fn put(key: u64, bytes: usize) -> Frame {
    Frame::Write(Write {
        address: address(key),
        version: Version::from_u64(key),
        deadlines: Deadlines::forever(Timestamp::from_millis(key)),
        envelope: Some(Bytes::from(vec![7; bytes])),
    })
}

fn address(key: u64) -> Address {
    Address { tenant: None, key: Bytes::from(format!("{key:04}")) }
}

fn keys(recovered: &Recovered) -> Vec<u64> {
    let mut keys: Vec<u64> = recovered.writes.iter().map(|found| found.write.version.as_u64()).collect();
    keys.sort_unstable();
    keys
}

#[test]
fn a_failed_sync_ends_the_journal_and_what_was_acknowledged_is_there() {
    let directory = LossyDirectory::new(1);
    let (mut log, _) = open(&directory);
    log.commit(&[put(1, 100)]).unwrap();
    directory.fail_next(Call::SyncData, io::ErrorKind::Other);
    assert!(matches!(log.commit(&[put(2, 100)]), Err(JournalError::Unknown(_))));
    let calls = directory.calls();
    assert!(matches!(log.commit(&[put(3, 100)]), Err(JournalError::Ended(_))));
    assert_eq!(directory.calls(), calls, "no second try");
    drop(log);

    // A reader of the same system sees the second write, although it is not on the disk.
    let (mut log, recovered) = open(&directory);
    assert_eq!(keys(&recovered), [1, 2]);
    log.commit(&[put(4, 100)]).unwrap();
    drop(log);
    assert_eq!(keys(&open(&directory.after_power_loss()).1), [1, 2, 4]);
}

#[test]
fn a_full_disk_refuses_certainly_drains_and_takes_writes_again() {
    for seed in 0..50 {
        let directory = LossyDirectory::new(seed);
        let (mut log, _) = open(&directory);
        directory.set_capacity(5 * SEGMENT);
        let mut acknowledged = Vec::new();
        let refused = (1..).find(|key| match log.commit(&[put(*key, 300)]) {
            Ok(()) => {
                acknowledged.push(*key);
                false
            }
            Err(error) => {
                assert!(matches!(error, JournalError::DiskFull(_)), "{error}");
                true
            }
        });
        let refused = refused.unwrap();
        assert!(acknowledged.len() > 40, "{}", acknowledged.len());
        assert!(directory.used_bytes() <= 5 * SEGMENT);
        let (directory, mut log) = if seed % 2 == 0 {
            drop(log);
            let directory = directory.after_power_loss();
            let (log, recovered) = open(&directory);
            assert_eq!(keys(&recovered), acknowledged);
            (directory, log)
        } else {
            (directory, log)
        };
        // The store takes what is oldest, which frees the oldest segments. A journal that was opened on the
        // full disk cannot write its last segment anew until the store has everything.
        let settled = if seed % 2 == 0 { acknowledged.len() } else { 30 };
        for key in &acknowledged[..settled] {
            let _ = log.commit(&[Frame::Settled(address(*key), Version::from_u64(*key))]);
            log.reclaim();
        }
        log.commit(&[put(refused + 1, 300)]).unwrap();
        drop(log);
        let found = keys(&open(&directory.after_power_loss()).1);
        let missing: Vec<_> = acknowledged[settled..].iter().filter(|key| !found.contains(key)).collect();
        assert!(
            missing.is_empty() && !found.contains(&refused) && found.contains(&(refused + 1)),
            "{found:?}"
        );
    }
}

#[test]
fn random_faults_lose_no_acknowledged_write_and_bring_no_refused_one_back() {
    let mut outcomes = [0; 4];
    for seed in 0..400 {
        let mut program = Program::new(LossyDirectory::new(seed), seed).with_faults();
        let wrong = (|| -> Result<(), Violation> {
            program.open()?;
            for round in 0..4 {
                program.steps(20)?;
                if (seed + round) % 2 == 0 { program.lose_power()? } else { program.kill()? }
            }
            Ok(())
        })();
        assert_eq!(wrong, Ok(()), "program {seed}");
        outcomes.iter_mut().zip(program.outcomes).for_each(|(sum, one)| *sum += one);
    }
    assert!(outcomes.iter().all(|count| *count > 20), "acknowledged, refused, unknown, ended: {outcomes:?}");
}

const NAMES: [&str; 3] = ["00000001.seg", "00000002.seg", "00000003.seg"];

/// The files of a journal with frames in three segments, each of them synced alone, and the keys.
fn filled() -> ([Vec<u8>; 3], Vec<u64>) {
    let directory = LossyDirectory::new(3);
    let (mut log, _) = open(&directory);
    let keys: Vec<u64> = (1..=24).collect();
    keys.iter().for_each(|key| log.commit(&[put(*key, 350)]).unwrap());
    assert_eq!(log.stats().segments, 3);
    (NAMES.map(|name| directory.read(name).unwrap()), keys)
}

fn directory_of(files: &[Vec<u8>; 3]) -> LossyDirectory {
    let directory = LossyDirectory::new(3);
    for (name, bytes) in NAMES.iter().zip(files) {
        directory.create(name).unwrap().append(bytes).unwrap();
    }
    directory
}

#[test]
fn one_changed_byte_is_refused_except_in_the_last_frame_which_looks_torn() {
    let (files, all) = filled();
    let mut torn = 0;
    for (file, name) in NAMES.iter().enumerate() {
        for offset in 0..files[file].len() {
            let directory = directory_of(&files);
            directory.damage(name, offset);
            match Log::open(Arc::new(directory), Program::options()) {
                Err(JournalError::Corrupt { .. } | JournalError::Format { .. }) => {}
                Err(error) => panic!("byte {offset} of {name}: {error}"),
                Ok((_, recovered)) => {
                    assert_eq!(keys(&recovered), all[..all.len() - 1], "byte {offset} of {name}");
                    assert_eq!(recovered.torn_bytes, put(1, 350).encoded_len());
                    torn += 1;
                }
            }
        }
    }
    assert_eq!(torn, put(1, 350).encoded_len());
}

#[test]
fn a_torn_tail_is_cut_at_any_byte_and_the_journal_goes_on() {
    let (mut files, all) = filled();
    let frame = put(1, 350).encoded_len();
    for torn in (1..frame).rev() {
        files[2].pop();
        let directory = directory_of(&files);
        let (mut log, recovered) = open(&directory);
        assert_eq!(keys(&recovered), all[..all.len() - 1]);
        assert_eq!(recovered.torn_bytes, torn);
        log.commit(&[put(99, 10)]).unwrap();
        drop(log);
        let recovered = open(&directory.after_kill()).1;
        assert_eq!((keys(&recovered).last(), recovered.torn_bytes), (Some(&99), 0));
    }
}

#[test]
fn a_missing_segment_and_one_under_a_wrong_name_are_refused() {
    let directory = directory_of(&filled().0);
    directory.remove(NAMES[1]).unwrap();
    let missing = Log::open(Arc::new(directory.clone()), Program::options()).expect_err("a gap");
    assert!(matches!(missing, JournalError::Corrupt { segment: 2, offset: 0, .. }), "{missing}");
    directory.rename(NAMES[2], NAMES[1]).unwrap();
    let renamed = Log::open(Arc::new(directory), Program::options()).expect_err("a wrong name");
    assert!(matches!(renamed, JournalError::Corrupt { segment: 2, .. }), "{renamed}");
}

#[test]
fn a_value_that_looks_like_a_later_frame_does_not_make_a_torn_tail_corrupt() {
    let directory = LossyDirectory::new(5);
    let (mut log, _) = open(&directory);
    log.commit(&[put(1, 100)]).unwrap();
    // What the value holds are frames of this very journal, with a `synced to` beyond the torn frame.
    let value = directory.read(NAMES[0]).unwrap();
    let Frame::Write(write) = put(2, 0) else { unreachable!() };
    log.commit(&[Frame::Write(Write { envelope: Some(Bytes::from(value)), ..write })]).unwrap();
    drop(log);
    let bytes = directory.read(NAMES[0]).unwrap();
    let torn = directory.after_kill();
    let mut file = torn.create(NAMES[0]).unwrap();
    file.append(&bytes[..bytes.len() - 1]).unwrap();
    assert_eq!(keys(&open(&torn).1), [1]);
}
