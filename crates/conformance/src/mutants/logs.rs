//! Tiers whose invalidation log is broken.

use std::time::Duration;

use super::*;
use crate::fake::reported_version;

/// A fake with a log; `beat` is called every few milliseconds.
fn logged(hooks: Hooks, beat: fn(&Fake)) -> Subject {
    let fake = Fake::with_hooks("broken", Clock::system(), hooks).with_log();
    let beats = fake.clone();
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(Duration::from_millis(2)).await;
            beat(&beats);
        }
    });
    Subject::new(fake.clone()).second(fake.another_handle()).lose_log(|_| Box::pin(async {}))
}

fn reporting(reported: fn(&Op, &Reply) -> Option<Option<Version>>) -> Subject {
    logged(Hooks { reported, ..Hooks::default() }, |fake| fake.log().beat())
}

#[tokio::test(start_paused = true)]
async fn reports_only_what_changed_a_cell() {
    let broken = || {
        reporting(|op, reply| match reply {
            Reply::Refused(_) | Reply::Done { existed: false, .. } => None,
            _ => reported_version(op, reply),
        })
    };
    caught(LOG, "changes_that_change_no_cell_are_reported", broken()).await;
    caught(STORE_LOG, "puts_and_removes_are_reported_in_order_with_their_versions", broken()).await;
}

#[tokio::test(start_paused = true)]
async fn reports_fills() {
    let broken = reporting(|op, reply| match (op, reply) {
        (Op::Fill { .. }, Reply::Kept(version)) => Some(Some(*version)),
        _ => reported_version(op, reply),
    });
    caught(LOG, "fills_and_leases_are_not_reported", broken).await;
}

#[tokio::test(start_paused = true)]
async fn reads_by_an_old_epoch_after_it_has_reported_a_clear() {
    let broken = logged(Hooks { forgets: false, ..Hooks::default() }, |fake| fake.log().beat());
    caught(LOG, "a_read_after_a_reported_clear_finds_no_dead_copy", broken).await;
}

#[tokio::test(start_paused = true)]
async fn reports_refused_puts() {
    let broken = reporting(|op, reply| match (op, reply) {
        (Op::Put { .. }, Reply::Refused(_)) => Some(None),
        _ => reported_version(op, reply),
    });
    caught(STORE_LOG, "a_refused_put_is_not_reported", broken).await;
}

#[tokio::test(start_paused = true)]
async fn forgets_the_versions() {
    let broken = || reporting(|op, reply| reported_version(op, reply).map(|_| None));
    caught(LOG, "changes_of_copies_are_reported_in_order", broken()).await;
    caught(LOG, "a_followers_own_put_is_reported_and_its_drops_need_not_be", broken()).await;
    caught(LOG, "a_batch_of_puts_is_reported_key_by_key", broken()).await;
}

#[tokio::test(start_paused = true)]
async fn does_not_report_changed_deadlines() {
    let broken = reporting(|op, reply| match op {
        Op::Expire { .. } => None,
        _ => reported_version(op, reply),
    });
    caught(STORE_LOG, "changed_deadlines_are_reported", broken).await;
}

#[tokio::test(start_paused = true)]
async fn sends_a_heartbeat_ahead_of_its_reports() {
    let broken = logged(Hooks::default(), |fake| {
        fake.log().hold(true);
        fake.log().beat_ahead();
        if fastrand::u8(..) < 20 {
            fake.log().hold(false);
        }
    });
    caught(LOG, "a_heartbeat_is_never_ahead_of_what_was_reported", broken).await;
}

#[tokio::test(start_paused = true)]
async fn does_not_know_that_it_was_lost() {
    let broken = logged(Hooks::default(), |fake| fake.log().beat());
    caught(LOG, "a_log_that_was_lost_is_reported_as_lost", broken).await;
}

#[tokio::test(start_paused = true)]
async fn publishes_whatever_the_watermark_is() {
    let broken = || logged(Hooks { refuses: false, ..Hooks::default() }, |fake| fake.log().beat());
    caught(PUBLISH, "a_step_that_expects_another_watermark_does_nothing", broken()).await;
    caught(PUBLISH, "a_step_that_expects_a_removed_watermark_does_nothing", broken()).await;
}
