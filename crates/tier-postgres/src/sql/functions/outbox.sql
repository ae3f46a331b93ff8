-- Whether rows may be deleted that were not yet visible in the snapshot `seen`, or `seen` is ahead of the
-- server, whose data then is older than before.
CREATE OR REPLACE FUNCTION {schema}.outbox_has_gap(seen pg_snapshot) RETURNS boolean LANGUAGE sql STABLE AS $function$
    SELECT pg_snapshot_xmax(seen) > pg_snapshot_xmax(pg_current_snapshot()) OR EXISTS (
        SELECT FROM {schema}.outbox_snapshots t
        WHERE t.trimmed AND pg_snapshot_xmax(t.snapshot) <= pg_snapshot_xmax(pg_current_snapshot()) AND (
            pg_snapshot_xmax(t.snapshot) > pg_snapshot_xmax(seen)
            OR EXISTS (
                SELECT FROM pg_snapshot_xip(seen) AS unseen(xid)
                WHERE pg_visible_in_snapshot(unseen.xid, t.snapshot)
            )
        )
    )
$function$;

-- Deletes at most `most` rows that a snapshot of ten minutes ago saw, and returns their number.
CREATE OR REPLACE FUNCTION {schema}.trim_outbox(most integer) RETURNS bigint
LANGUAGE plpgsql {definer} AS $function$
DECLARE
    old {schema}.outbox_snapshots;
    first xid8;
    gone bigint;
BEGIN
    -- It is enough that one process trims at a time.
    IF NOT pg_try_advisory_xact_lock(hashtextextended('trims {schema}.outbox', 0)) THEN
        RETURN 0;
    END IF;
    -- Rows from the dump of another server, with more transactions than this one, mean nothing here.
    DELETE FROM {schema}.outbox_snapshots WHERE pg_snapshot_xmax(snapshot) > pg_snapshot_xmax(pg_current_snapshot());
    DELETE FROM {schema}.outbox WHERE xid >= pg_snapshot_xmax(pg_current_snapshot());
    INSERT INTO {schema}.outbox_snapshots (taken_at, snapshot)
        SELECT clock_timestamp(), pg_current_snapshot()
        WHERE NOT EXISTS (
            SELECT FROM {schema}.outbox_snapshots WHERE taken_at > clock_timestamp() - interval '1 minute'
        );
    SELECT * INTO old FROM {schema}.outbox_snapshots
        WHERE taken_at <= clock_timestamp() - interval '10 minutes' ORDER BY taken_at DESC LIMIT 1;
    IF NOT FOUND THEN
        RETURN 0;
    END IF;
    -- It does not read the index entries of rows that are gone: while a transaction is open that is older
    -- than their deletion, nothing removes them.
    SELECT pg_snapshot_xmin(snapshot) INTO first FROM {schema}.outbox_snapshots
        WHERE emptied ORDER BY pg_snapshot_xmin(snapshot) DESC LIMIT 1;
    first := coalesce(first, '0');
    DELETE FROM {schema}.outbox WHERE ctid = ANY (ARRAY(
        SELECT ctid FROM {schema}.outbox
        WHERE xid >= first AND xid < pg_snapshot_xmax(old.snapshot) AND pg_visible_in_snapshot(xid, old.snapshot)
        ORDER BY xid LIMIT most));
    GET DIAGNOSTICS gone = ROW_COUNT;
    IF gone > 0 THEN
        UPDATE {schema}.outbox_snapshots SET trimmed = true WHERE taken_at = old.taken_at AND NOT trimmed;
    END IF;
    IF gone < most THEN
        UPDATE {schema}.outbox_snapshots SET emptied = true WHERE taken_at = old.taken_at AND NOT emptied;
    END IF;
    DELETE FROM {schema}.outbox_snapshots WHERE taken_at < old.taken_at AND (gone > 0 OR NOT trimmed);
    RETURN gone;
END
$function$;

-- Says that a key has changed, and returns the number of the change. The tenant is written as in the table
-- spaces.
CREATE OR REPLACE FUNCTION {schema}.outbox_add_change(p_namespace text, p_tenant text, p_key bytea) RETURNS bigint
LANGUAGE sql VOLATILE {definer} AS $function$
    INSERT INTO {schema}.outbox (namespace, tenant, key) VALUES (p_namespace, p_tenant, p_key) RETURNING id
$function$;

-- The same for programs of an earlier version.
CREATE OR REPLACE FUNCTION {schema}.outbox_add(p_namespace text, p_tenant text, p_key bytea) RETURNS void
LANGUAGE sql VOLATILE {definer} AS $function$
    SELECT {schema}.outbox_add_change(p_namespace, p_tenant, p_key)
$function$;

-- Reads the outbox for a role that may not SELECT from it: see the statement of the same name.
CREATE OR REPLACE FUNCTION {schema}.outbox_read(p_seen pg_snapshot, p_namespaces text[], p_copies boolean, p_most bigint)
RETURNS TABLE (id bigint, snapshot text, gap boolean, namespace text, tenant text, key bytea, version bigint, read_only boolean)
LANGUAGE plpgsql STABLE {definer} AS $function$
#variable_conflict use_column
BEGIN
    RETURN QUERY {read_outbox};
END
$function$;
