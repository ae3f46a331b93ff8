-- Tables of the application whose changes are reported in the outbox.

CREATE TABLE {schema}.watches (
    id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    relation regclass NOT NULL,
    namespace text NOT NULL,
    keyed_by text[] NOT NULL,
    tenant_in text,
    UNIQUE (relation, namespace)
);
COMMENT ON TABLE {schema}.watches IS 'Tables whose changes invalidate keys of a namespace: see watch and unwatch.';
