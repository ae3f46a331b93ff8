-- Write-behind: a front acknowledges writes, and the records follow it.
CREATE TABLE {schema}.fronts (
    namespace text PRIMARY KEY,
    id bigint NOT NULL,
    nonce bigint NOT NULL,
    term bigint NOT NULL,
    high bigint NOT NULL,
    until bigint NOT NULL
);
COMMENT ON TABLE {schema}.fronts IS
    'The write-behind front of each namespace. While it holds the namespace, it alone writes the records.';
COMMENT ON COLUMN {schema}.fronts.id IS 'The front that was opened last, 0 after its release.';
COMMENT ON COLUMN {schema}.fronts.term IS 'Grows with each opening and release. A write of another term is refused.';
COMMENT ON COLUMN {schema}.fronts.high IS 'The highest version that a front has written.';
COMMENT ON COLUMN {schema}.fronts.until IS 'The end of the hold in ms since 1970, -1 is never.';
