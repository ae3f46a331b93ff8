//! The Postgres tier of terrace: store of record, or expiring cache tier, over sqlx.
