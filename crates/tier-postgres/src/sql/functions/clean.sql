-- What the background task of each process calls to delete dead rows. Rows that are locked are in use and
-- are skipped, so cleaning never waits while it holds locks; the next pass finds them.

-- Whether the caller is to clean now: no other process began within `p_seconds`.
CREATE OR REPLACE FUNCTION {schema}.clean_turn(p_seconds double precision) RETURNS boolean
LANGUAGE plpgsql VOLATILE {definer} AS $function$
BEGIN
    INSERT INTO {schema}.cleaner_turns AS t (one, taken_at) VALUES (true, clock_timestamp())
        ON CONFLICT (one) DO UPDATE SET taken_at = excluded.taken_at
        WHERE t.taken_at < clock_timestamp() - p_seconds * interval '1 second'
            OR t.taken_at > clock_timestamp() + interval '1 minute';
    RETURN FOUND;
END
$function$;

-- Deletes at most `p_most` expired tombstones and records whose deadline is `p_after` or later, in the order
-- of deadlines. An expired record is kept for an hour: a load that began before the record was written must
-- find the version that it lost to. It returns the last deadline, or NULL if nothing was deleted: the next
-- call begins there, and so does not read again the index entries of the rows that are gone.
CREATE OR REPLACE FUNCTION {schema}.clean_records(
    p_after bigint, p_most integer, OUT last_deadline bigint, OUT gone bigint
) LANGUAGE plpgsql VOLATILE {definer} AS $function$
DECLARE
    now_ms CONSTANT bigint := {schema}.now_ms();
BEGIN
    WITH deleted AS (
        DELETE FROM {schema}.records WHERE ctid = ANY (ARRAY(
            SELECT ctid FROM {schema}.records
            WHERE expires_at >= 0 AND expires_at >= p_after AND expires_at <= now_ms
                AND (state <> 'V' OR expires_at <= now_ms - 3600000)
            ORDER BY expires_at LIMIT p_most FOR UPDATE SKIP LOCKED))
        RETURNING expires_at
    )
    SELECT max(d.expires_at), count(*) INTO last_deadline, gone FROM deleted d;
END
$function$;

-- The namespaces that were cleared, and whose dead copies are still to be deleted.
CREATE OR REPLACE FUNCTION {schema}.cleared_spaces() RETURNS TABLE (id integer, epoch bigint)
LANGUAGE sql STABLE {definer} AS $function$ SELECT s.id, s.epoch FROM {schema}.spaces s WHERE s.sweep $function$;

-- Deletes the copies of other epochs than `p_epoch` among the `p_most` after the digest `p_after`, and
-- returns the last digest; no row if there is none, or if the namespace was cleared again.
--
-- The lock on the row of `spaces` makes the next clear wait for the end of the page, so that copies of
-- another epoch are older ones. After that clear there is no row to lock, and no page.
CREATE OR REPLACE FUNCTION {schema}.clean_cleared(p_space integer, p_epoch bigint, p_after bytea, p_most bigint)
RETURNS TABLE (digest bytea) LANGUAGE sql VOLATILE {definer} AS $function$
    WITH space AS MATERIALIZED (
        SELECT s.id, s.epoch FROM {schema}.spaces s WHERE s.id = p_space AND s.epoch = p_epoch FOR SHARE
    ), page AS MATERIALIZED (
        SELECT c.digest FROM {schema}.cache_entries c
        WHERE c.space = (SELECT id FROM space) AND c.digest > p_after ORDER BY c.digest LIMIT p_most
    ), dead AS MATERIALIZED (
        SELECT e.ctid AS place FROM page p
        JOIN {schema}.cache_entries e ON e.space = p_space AND e.digest = p.digest
        WHERE e.epoch <> p_epoch FOR UPDATE OF e SKIP LOCKED
    ), gone AS (
        DELETE FROM {schema}.cache_entries e WHERE e.ctid = ANY (ARRAY(SELECT place FROM dead))
    ) SELECT p.digest FROM page p ORDER BY p.digest DESC LIMIT 1
$function$;

-- Ends the deletion of the dead copies of a namespace, unless it was cleared again.
CREATE OR REPLACE FUNCTION {schema}.end_clean_cleared(p_space integer, p_epoch bigint) RETURNS void
LANGUAGE sql VOLATILE {definer} AS $function$
    UPDATE {schema}.spaces SET sweep = false WHERE id = p_space AND epoch = p_epoch
$function$;
