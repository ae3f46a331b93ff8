-- Views and functions for operators.

CREATE OR REPLACE VIEW {schema}.stats AS
SELECT s.namespace, nullif(s.tenant, '') AS tenant, s.role,
    count(c.state) AS entries,
    count(*) FILTER (WHERE c.live AND c.state = 'V') AS live,
    count(*) FILTER (WHERE c.live AND c.state = 'N') AS negative,
    count(*) FILTER (WHERE c.live AND c.state = 'L') AS leases,
    count(*) FILTER (WHERE c.live AND c.state = 'T') AS tombstones,
    coalesce(sum(c.bytes), 0)::bigint AS bytes
FROM {schema}.spaces s
LEFT JOIN LATERAL (
    SELECT r.state, octet_length(r.body) AS bytes,
        r.expires_at < 0 OR r.expires_at > (SELECT {schema}.now_ms()) AS live
    FROM {schema}.records r WHERE s.role = 'store' AND r.space = s.id
    UNION ALL
    SELECT e.state, octet_length(e.body),
        e.epoch = s.epoch AND (e.expires_at < 0 OR e.expires_at > (SELECT {schema}.now_ms()))
    FROM {schema}.cache_entries e WHERE s.role = 'cache' AND e.space = s.id
) c ON true
GROUP BY s.namespace, s.tenant, s.role;
COMMENT ON VIEW {schema}.stats IS
    'What each namespace holds. Dead rows that are not deleted yet count as entries only. It reads every row.';

CREATE OR REPLACE VIEW {schema}.index_usage AS
SELECT i.relname AS "table", i.indexrelname AS "index", i.idx_scan AS scans,
    i.idx_tup_read AS entries_read, i.idx_tup_fetch AS rows_fetched,
    pg_relation_size(i.indexrelid) AS size_bytes
FROM pg_stat_user_indexes i
WHERE i.relid IN ('{schema}.spaces'::regclass, '{schema}.records'::regclass, '{schema}.cache_entries'::regclass);
COMMENT ON VIEW {schema}.index_usage IS 'How often each index of the library was used since the statistics were reset.';

-- Deletes cached entries that were written more than `days` days ago, and returns their number. Records
-- are in another table, which it never touches. It skips locked rows. A session that writes one of the
-- deleted rows waits for the end of the statement: use the procedure below for large tables.
CREATE OR REPLACE FUNCTION {schema}.cleanup_old_cache_entries(days integer) RETURNS bigint
LANGUAGE plpgsql AS $function$
DECLARE
    horizon bigint;
    gone bigint;
BEGIN
    IF days IS NULL OR days < 0 THEN
        RAISE EXCEPTION 'days must be zero or more' USING ERRCODE = 'invalid_parameter_value';
    END IF;
    horizon := {schema}.now_ms() - days * 86400000::bigint;
    DELETE FROM {schema}.cache_entries WHERE ctid = ANY (ARRAY(
        SELECT ctid FROM {schema}.cache_entries WHERE written BETWEEN 0 AND horizon FOR UPDATE SKIP LOCKED));
    GET DIAGNOSTICS gone = ROW_COUNT;
    RETURN gone;
END
$function$;

-- The same in transactions of a thousand rows, so that no writer waits for long. It is a procedure, since
-- a function cannot commit.
CREATE OR REPLACE PROCEDURE {schema}.cleanup_old_cache_entries_in_batches(days integer, INOUT deleted bigint DEFAULT 0)
LANGUAGE plpgsql AS $procedure$
#variable_conflict use_column
DECLARE
    horizon bigint;
    last_space integer := -2147483648;
    last_digest bytea := '';
    gone bigint;
BEGIN
    IF days IS NULL OR days < 0 THEN
        RAISE EXCEPTION 'days must be zero or more' USING ERRCODE = 'invalid_parameter_value';
    END IF;
    horizon := {schema}.now_ms() - days * 86400000::bigint;
    deleted := 0;
    LOOP
        WITH page AS MATERIALIZED (
            SELECT e.space, e.digest FROM {schema}.cache_entries e
            WHERE (e.space, e.digest) > (last_space, last_digest)
            ORDER BY e.space, e.digest LIMIT 1000
        ), old AS MATERIALIZED (
            -- It skips locked rows, so that it never waits while it holds locks.
            SELECT e.ctid AS place FROM page p
            JOIN {schema}.cache_entries e ON e.space = p.space AND e.digest = p.digest
            WHERE e.written BETWEEN 0 AND horizon FOR UPDATE OF e SKIP LOCKED
        ), dropped AS (
            DELETE FROM {schema}.cache_entries e WHERE e.ctid = ANY (ARRAY(SELECT place FROM old)) RETURNING 1
        )
        SELECT p.space, p.digest, (SELECT count(*) FROM dropped)
            INTO last_space, last_digest, gone
            FROM page p ORDER BY p.space DESC, p.digest DESC LIMIT 1;
        EXIT WHEN NOT FOUND;
        deleted := deleted + gone;
        COMMIT;
    END LOOP;
END
$procedure$;

-- Makes the next `ready()` store the options (level, schema, shape) of its caller, whichever role it has.
CREATE OR REPLACE FUNCTION {schema}.forget_terms(of_namespace text) RETURNS void LANGUAGE sql AS $function$
    UPDATE {schema}.spaces SET level = NULL, value_schema = NULL, value_shape = NULL
    WHERE namespace = of_namespace;
$function$;
