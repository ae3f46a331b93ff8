-- The outbox: the changes that followers of the log read. The statement or transaction that makes a
-- change writes its row, so the row exists if and only if the change does.

-- The table must not be UNLOGGED: after a lost row, an old copy would stay until it expires.
CREATE TABLE {schema}.outbox (
    xid xid8 NOT NULL DEFAULT pg_current_xact_id(),
    id bigint GENERATED ALWAYS AS IDENTITY,
    namespace text NOT NULL,
    tenant text NOT NULL DEFAULT '',
    key bytea,
    version bigint,
    of_copies boolean NOT NULL DEFAULT false,
    PRIMARY KEY (xid, id)
);
COMMENT ON TABLE {schema}.outbox IS 'The changes of the last ten minutes. Ids are not in the order of commits: readers take the rows that became visible since their last snapshot.';
COMMENT ON COLUMN {schema}.outbox.tenant IS 'As in the table spaces.';
COMMENT ON COLUMN {schema}.outbox.key IS 'NULL stands for all keys of the namespace, or of the tenant.';
COMMENT ON COLUMN {schema}.outbox.version IS 'Copies of this version or a later one may stay; with NULL, no copy may.';
COMMENT ON COLUMN {schema}.outbox.of_copies IS 'True if the library changed a cached copy: near tiers read such rows, and relays do not.';

-- One snapshot a minute. For a snapshot with `trimmed`, rows that it saw may be deleted.
CREATE TABLE {schema}.outbox_snapshots (
    taken_at timestamptz PRIMARY KEY,
    snapshot pg_snapshot NOT NULL,
    trimmed boolean NOT NULL DEFAULT false
);
