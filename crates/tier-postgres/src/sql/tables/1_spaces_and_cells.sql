-- {schema} is the quoted name of the schema. Unsigned numbers of 64 bits (epochs, tokens, deadlines) are
-- stored as bigint with the same bits: a negative deadline is 292 million years ahead, and -1 is never.

CREATE TABLE {schema}.spaces (
    id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    namespace text NOT NULL,
    tenant text NOT NULL,
    role text NOT NULL CHECK (role IN ('cache', 'store')),
    level text,
    value_schema bigint,
    value_shape bigint,
    epoch bigint NOT NULL,
    sweep boolean NOT NULL DEFAULT false,
    UNIQUE (namespace, tenant, role)
);
COMMENT ON TABLE {schema}.spaces IS 'Namespaces and tenants, their options, and the epoch of their cached entries.';
COMMENT ON COLUMN {schema}.spaces.tenant IS 'Empty for no tenant. A backslash is doubled, NUL is \0, an empty name is \e.';
COMMENT ON COLUMN {schema}.spaces.sweep IS 'Set by a clear: entries of earlier epochs are still to be deleted.';

CREATE TABLE {schema}.records (
    space integer NOT NULL,
    digest bytea NOT NULL,
    key bytea NOT NULL,
    state "char" NOT NULL,
    version bigint NOT NULL,
    epoch bigint,
    token bigint,
    written bigint NOT NULL,
    fresh_until bigint NOT NULL,
    stale_until bigint NOT NULL,
    expires_at bigint NOT NULL,
    body bytea,
    PRIMARY KEY (space, digest)
);
COMMENT ON TABLE {schema}.records IS 'Records. State: V a value, N a negative entry, T the tombstone of a removed record. Times in ms since 1970, -1 is never.';
-- Bodies are already compressed where that pays.
ALTER TABLE {schema}.records ALTER COLUMN body SET STORAGE EXTERNAL;
-- It holds only tombstones and records that expire, which are few.
CREATE INDEX records_by_deadline ON {schema}.records (expires_at) WHERE expires_at >= 0;

-- The table is unlogged, so that no lease or fill waits for the disk. A crash of the server empties it,
-- which is safe for copies.
CREATE UNLOGGED TABLE {schema}.cache_entries (LIKE {schema}.records INCLUDING STORAGE, PRIMARY KEY (space, digest));
ALTER TABLE {schema}.cache_entries ALTER COLUMN epoch SET NOT NULL;
COMMENT ON TABLE {schema}.cache_entries IS 'Cached copies. State: V a value, N a negative entry, L a lease, T a tombstone. Times in ms since 1970, -1 is never.';
