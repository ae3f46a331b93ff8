//! SQLite passes the suite in both roles, in a file and in memory.
#![allow(clippy::expect_used, reason = "a failed preparation fails the test")]

mod file {
    use terrace_conformance::suite::Subject;
    use terrace_tier_sqlite::Sqlite;

    async fn file() -> Subject {
        let folder = tempfile::tempdir().expect("a folder");
        let sqlite = Sqlite::file(folder.path().join("terrace.db")).expect("a handle");
        Subject::new(sqlite).guard(folder)
    }

    terrace_conformance::tier_suite!(file);
    terrace_conformance::tier_suite!(file, front);
    terrace_conformance::machine!(file, cases = 12);
}

mod memory {
    use terrace_conformance::suite::Subject;
    use terrace_tier_sqlite::Sqlite;

    async fn memory() -> Subject {
        Subject::new(Sqlite::memory())
    }

    terrace_conformance::tier_suite!(memory);
    terrace_conformance::tier_suite!(memory, front);
    terrace_conformance::machine!(memory, cases = 12);
}
