//! The embedded SQLite tier of terrace: the same contract, no server, one process.
