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

-- Whether rows may be deleted that were not yet visible in the snapshot `seen`, or `seen` is ahead of the
-- server, whose data then is older than before.
CREATE FUNCTION {schema}.outbox_has_gap(seen pg_snapshot) RETURNS boolean LANGUAGE sql STABLE AS $function$
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
CREATE FUNCTION {schema}.trim_outbox(most integer) RETURNS bigint LANGUAGE plpgsql AS $function$
DECLARE
    old {schema}.outbox_snapshots;
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
    DELETE FROM {schema}.outbox WHERE ctid = ANY (ARRAY(
        SELECT ctid FROM {schema}.outbox
        WHERE xid < pg_snapshot_xmax(old.snapshot) AND pg_visible_in_snapshot(xid, old.snapshot)
        ORDER BY xid LIMIT most));
    GET DIAGNOSTICS gone = ROW_COUNT;
    IF gone > 0 THEN
        UPDATE {schema}.outbox_snapshots SET trimmed = true WHERE taken_at = old.taken_at AND NOT trimmed;
    END IF;
    DELETE FROM {schema}.outbox_snapshots WHERE taken_at < old.taken_at AND (gone > 0 OR NOT trimmed);
    RETURN gone;
END
$function$;

-- A tenant's name as the table `spaces` stores it.
CREATE FUNCTION {schema}.tenant_name(tenant text) RETURNS text LANGUAGE sql IMMUTABLE AS $function$
    SELECT CASE WHEN tenant IS NULL THEN '' WHEN tenant = '' THEN '\e' ELSE replace(tenant, '\', '\\') END
$function$;

-- The bytes of a key as the cache encodes them; those of a tuple come from its elements.
CREATE FUNCTION {schema}.key(part text) RETURNS bytea LANGUAGE sql IMMUTABLE
    AS $function$ SELECT convert_to(part, 'UTF8') $function$;
CREATE FUNCTION {schema}.key(part bigint) RETURNS bytea LANGUAGE sql IMMUTABLE
    AS $function$ SELECT int8send(part) $function$;
CREATE FUNCTION {schema}.key(part uuid) RETURNS bytea LANGUAGE sql IMMUTABLE
    AS $function$ SELECT uuid_send(part) $function$;
CREATE FUNCTION {schema}.key(part bytea) RETURNS bytea LANGUAGE sql IMMUTABLE
    AS $function$ SELECT part $function$;
CREATE FUNCTION {schema}.key(part boolean) RETURNS bytea LANGUAGE sql IMMUTABLE
    AS $function$ SELECT boolsend(part) $function$;
CREATE FUNCTION {schema}.key(VARIADIC parts bytea[]) RETURNS bytea LANGUAGE sql IMMUTABLE AS $function$
    SELECT string_agg(int4send(octet_length(part)) || part, ''::bytea ORDER BY ord)
    FROM unnest(parts) WITH ORDINALITY AS p(part, ord)
$function$;

-- Invalidates the copies of a key. Call it in the transaction that changes the origin. Without a key it
-- invalidates all copies of the namespace and tenant.
CREATE FUNCTION {schema}.invalidate(namespace text, tenant text, key bytea) RETURNS void
LANGUAGE sql AS $function$
    INSERT INTO {schema}.outbox (namespace, tenant, key)
    VALUES (invalidate.namespace, {schema}.tenant_name(invalidate.tenant), invalidate.key)
$function$;

-- Writes the outbox for changes of records by SQL by hand or by another program. The library's own
-- statements write the outbox themselves, and set `terrace.logs`, which the trigger checks.
CREATE FUNCTION {schema}.records_changed() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $function$
BEGIN
    IF TG_OP = 'TRUNCATE' THEN
        INSERT INTO {schema}.outbox (namespace, tenant)
            SELECT s.namespace, s.tenant FROM {schema}.spaces s WHERE s.role = 'store';
        RETURN NULL;
    END IF;
    IF TG_OP <> 'INSERT' THEN
        INSERT INTO {schema}.outbox (namespace, tenant, key)
            SELECT s.namespace, s.tenant, OLD.key FROM {schema}.spaces s WHERE s.id = OLD.space;
    END IF;
    IF TG_OP = 'INSERT' OR (TG_OP = 'UPDATE' AND (NEW.space, NEW.key) IS DISTINCT FROM (OLD.space, OLD.key)) THEN
        INSERT INTO {schema}.outbox (namespace, tenant, key)
            SELECT s.namespace, s.tenant, NEW.key FROM {schema}.spaces s WHERE s.id = NEW.space;
    END IF;
    RETURN NULL;
END
$function$;
CREATE TRIGGER records_changed AFTER INSERT OR UPDATE ON {schema}.records FOR EACH ROW
    WHEN (current_setting('terrace.logs', true) IS DISTINCT FROM 'on')
    EXECUTE FUNCTION {schema}.records_changed();
-- The deletion of an expired record or of a tombstone writes nothing: that is what cleaning does.
CREATE TRIGGER records_deleted AFTER DELETE ON {schema}.records FOR EACH ROW
    WHEN (OLD.state = 'V' AND (OLD.expires_at < 0 OR OLD.expires_at > {schema}.now_ms()))
    EXECUTE FUNCTION {schema}.records_changed();
CREATE TRIGGER records_truncated AFTER TRUNCATE ON {schema}.records
    EXECUTE FUNCTION {schema}.records_changed();
ALTER TABLE {schema}.records ENABLE ALWAYS TRIGGER records_changed;
ALTER TABLE {schema}.records ENABLE ALWAYS TRIGGER records_deleted;
ALTER TABLE {schema}.records ENABLE ALWAYS TRIGGER records_truncated;
