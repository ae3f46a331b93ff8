-- What keeps the tables small under constant writes.

-- Every lease and fill changes the deadline, so an index on it would make each of them write two index
-- entries and leave a dead row that only a VACUUM removes. The cleaner reads the table in its own order.
DROP INDEX IF EXISTS {schema}.cache_entries_by_deadline;
DROP INDEX IF EXISTS {schema}.lease_signs_by_deadline;

-- A new version of a row stays in its page if there is space, and then touches no index.
ALTER TABLE {schema}.records SET (
    fillfactor = 85, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 1000,
    toast.autovacuum_vacuum_scale_factor = 0.02, toast.autovacuum_vacuum_threshold = 1000);
ALTER TABLE {schema}.cache_entries SET (
    fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 1000,
    toast.autovacuum_vacuum_scale_factor = 0.02, toast.autovacuum_vacuum_threshold = 1000);
ALTER TABLE {schema}.lease_signs SET (
    fillfactor = 50, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 1000);
ALTER TABLE {schema}.outbox SET (
    autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 1000,
    autovacuum_vacuum_insert_scale_factor = 0.05,
    toast.autovacuum_vacuum_scale_factor = 0.02, toast.autovacuum_vacuum_threshold = 1000);

-- Many processes clean: the row makes one of them clean at a time when nothing is written.
CREATE UNLOGGED TABLE {schema}.cleaner_turns (
    one boolean PRIMARY KEY CHECK (one),
    taken_at timestamptz NOT NULL
);
COMMENT ON TABLE {schema}.cleaner_turns IS 'When a process last began to clean because of the time, and not of what it had written.';

-- All rows of the outbox that the snapshot knew to be finished were deleted: the next deletion begins there.
ALTER TABLE {schema}.outbox_snapshots ADD COLUMN IF NOT EXISTS emptied boolean NOT NULL DEFAULT false;
