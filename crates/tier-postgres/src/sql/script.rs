//! The SQL that makes or upgrades the library's schema.
//!
//! Each file in `tables` is a version: it is run once, and new files go to the end. The files in `functions`
//! say `CREATE OR REPLACE`, and all of them are run after each upgrade.

use super::statements::{CELL, CURRENT_EPOCH, read_outbox};

const TABLES: [&str; 7] = [
    include_str!("tables/1_spaces_and_cells.sql"),
    include_str!("tables/2_outbox.sql"),
    include_str!("tables/3_watches.sql"),
    include_str!("tables/4_lease_signs.sql"),
    include_str!("tables/5_cleaning.sql"),
    include_str!("tables/6_fronts.sql"),
    include_str!("tables/7_counters.sql"),
];

/// The version of the schema that this code knows.
#[allow(clippy::cast_possible_truncation, clippy::cast_possible_wrap, reason = "a few versions")]
pub(crate) const CURRENT_VERSION: i32 = TABLES.len() as i32;

/// The table of the versions that a schema has been through.
const MIGRATIONS: &str = "CREATE TABLE IF NOT EXISTS {schema}.migrations (
    version integer PRIMARY KEY,
    applied_at timestamptz NOT NULL DEFAULT now()
);
";

/// The SQL that brings `schema`, a quoted name that exists, from version `from` to the current one.
pub(crate) fn migration(schema: &str, from: i32) -> String {
    let from = usize::try_from(from).unwrap_or(0);
    let mut text = if from == 0 { MIGRATIONS.to_owned() } else { String::new() };
    for (index, tables) in TABLES.iter().enumerate().skip(from) {
        text.push_str(tables);
        text.push_str(&format!("INSERT INTO {{schema}}.migrations (version) VALUES ({});\n", index + 1));
    }
    text.push_str(&functions());
    text.replace("{schema}", schema)
}

/// A script that makes `schema`, a quoted name, in one transaction.
pub(crate) fn whole(schema: &str) -> String {
    format!(
        "-- The schema {schema} of terrace, version {CURRENT_VERSION}. Run it as the owner of the database, or as a \
         role with CREATE on it:\n\
         -- psql -v ON_ERROR_STOP=1 -f this-file. Afterwards let the same role give an application's role what \
         it needs:\n\
         -- SELECT {schema}.grant_use_to('the role');\n\
         BEGIN;\n\
         SET LOCAL client_min_messages = 'warning';\n\
         CREATE SCHEMA IF NOT EXISTS {schema};\n\
         {}\n\
         COMMIT;\n",
        migration(schema, 0)
    )
}

/// All functions, views and triggers. A body of SQL is checked when its function is made, so a function comes
/// after those that it calls.
fn functions() -> String {
    let write = include_str!("functions/write.sql");
    let read = include_str!("functions/read.sql");
    let of_role = |text: &str, role: &str, table: &str, store: &str, current: &str| {
        text.replace("{role}", role)
            .replace("{table}", table)
            .replace("{store}", store)
            .replace("{current}", &current.replace("{space}", "p_space"))
    };
    let of_both = |text: &str| {
        of_role(text, "store", "records", "true", "")
            + &of_role(text, "cache", "cache_entries", "false", CURRENT_EPOCH)
    };
    let clean = include_str!("functions/clean_pages.sql");
    [
        include_str!("functions/clock.sql"),
        include_str!("functions/keys.sql"),
        include_str!("functions/namespaces.sql"),
        &of_both(read),
        include_str!("functions/lease.sql"),
        include_str!("functions/outbox.sql"),
        include_str!("functions/fronts.sql"),
        &of_both(write),
        include_str!("functions/records_changed.sql"),
        include_str!("functions/watch.sql"),
        include_str!("functions/counters.sql"),
        include_str!("functions/operators.sql"),
        &clean.replace("{table}", "cache_entries"),
        &clean.replace("{table}", "lease_signs"),
        include_str!("functions/clean.sql"),
        include_str!("functions/rights.sql"),
    ]
    .join("\n")
    .replace("{cell}", CELL)
    .replace("{read_outbox}", &read_outbox(["p_seen", "p_namespaces", "p_copies", "p_most"]))
    // A function runs with the rights of the schema's owner, and finds operators in pg_catalog alone.
    .replace("{definer}", "SECURITY DEFINER SET search_path = pg_catalog, pg_temp")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_has_no_placeholder_left() {
        let text = whole("\"other-1\"");
        for placeholder in
            ["{schema}", "{role}", "{table}", "{store}", "{current}", "{cell}", "{definer}", "{space}"]
        {
            assert!(!text.contains(placeholder), "{placeholder}");
        }
    }

    #[test]
    fn every_function_that_runs_as_the_owner_finds_operators_in_the_catalogue_alone() {
        let text = whole("\"terrace\"");
        for (at, _) in text.match_indices("SECURITY DEFINER") {
            let after = &text[at..text.len().min(at + 120)];
            assert!(after.contains("search_path = pg_catalog, pg_temp"), "{after}");
        }
    }
}
