//! What replaces copies that a refresh has outdated. The origin has changed, and its writer reached no
//! server.

use terrace_tier::defence::Defence;

use super::{STORED, Switch, TWO, core, script};
use crate::{Act, LoaderPace, Plan, Stack, Trouble, Way};

pub(super) fn switches() -> Vec<Switch> {
    use Act::{Get, Put, Refresh};
    vec![
        core("a refused fill replaces an older copy", "2", Defence::Outdate, || {
            let steps = [
                (0, 0, Put(0)),
                (12, 0, Put(0)),
                (20, 1, Get(0)),
                (25, 1, Refresh(0, LoaderPace::Late(0))),
                (100, 1, Get(0)),
            ];
            // The copy that a read found comes to the nearer tier before the refresh, over the same lease.
            let slow = (24, Trouble::Slow(1, 0, Way::There, 6, 1));
            let plan = script(TWO, &steps, &[(10, cut(0)), (10, cut(1)), (18, Trouble::Evict(0, 0)), slow]);
            Plan { calm_from: Some(25), ..plan }
        }),
        core(
            "a copy that a tier is not to keep leaves nothing older there",
            "7",
            Defence::DropReplaced,
            || {
                let steps = [
                    (0, 0, Put(0)),
                    (5, 1, Get(0)),
                    (12, 0, Put(0)),
                    (25, 1, Refresh(0, LoaderPace::Late(0))),
                    (100, 1, Get(0)),
                ];
                let plan = script(Stack { picky: true, ..STORED }, &steps, &[(10, cut(0))]);
                Plan { seed: 9, calm_from: Some(25), ..plan }
            },
        ),
    ]
}

/// The owner of the key no longer reaches this server.
fn cut(server: usize) -> Trouble {
    Trouble::Cut(0, server, Way::There, 500)
}
