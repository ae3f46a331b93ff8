-- Counters that all processes share, by group and name.
CREATE TABLE {schema}.counters (
    of_group text NOT NULL,
    name text NOT NULL,
    total bigint NOT NULL,
    PRIMARY KEY (of_group, name)
) WITH (fillfactor = 50);
COMMENT ON TABLE {schema}.counters IS 'Sums that processes add once a second. A group has at most 4096 names, and one more for all others.';
