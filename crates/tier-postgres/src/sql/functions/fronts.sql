-- Write-behind. A direct write takes ROW EXCLUSIVE on fronts before it looks, and an opening takes SHARE ROW
-- EXCLUSIVE: so an opening waits for the direct writes under way, and those that come later see it. A write
-- behind updates the row of its front, which an opening changes too: so it sees its term under a lock.

-- Refuses a direct write while a front holds the namespace. The first one after the end of a hold ends the
-- front's term, so that what the front has not written cannot replace it.
CREATE OR REPLACE FUNCTION {schema}.permit_direct_write(p_namespace text) RETURNS void
LANGUAGE plpgsql VOLATILE {definer} AS $function$
DECLARE
    front {schema}.fronts;
BEGIN
    LOCK TABLE {schema}.fronts IN ROW EXCLUSIVE MODE;
    SELECT * INTO front FROM {schema}.fronts f WHERE f.namespace = p_namespace;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    IF front.until < 0 OR front.until > {schema}.now_ms() THEN
        RAISE EXCEPTION 'a write-behind front holds the namespace' USING ERRCODE = 'TR002';
    END IF;
    IF front.id <> 0 THEN
        UPDATE {schema}.fronts f SET id = 0, nonce = 0, term = f.term + 1, until = 0
            WHERE f.namespace = p_namespace AND f.term = front.term;
    END IF;
END
$function$;

-- Opens a front. `refused` is NULL, 'held' or 'replaced'. It does what FrontRow::opened of terrace-tier says.
CREATE OR REPLACE FUNCTION {schema}.front_open(
    p_namespace text, p_id bigint, p_nonce bigint, p_known bigint[], p_resumed boolean, p_hold bigint, p_takes_over boolean
) RETURNS TABLE (refused text, term bigint, high bigint)
LANGUAGE plpgsql VOLATILE {definer} AS $function$
#variable_conflict use_column
DECLARE
    front {schema}.fronts;
    is_there boolean;
    is_own boolean;
    is_held boolean;
    highest bigint;
BEGIN
    PERFORM {schema}.durable(true);
    -- A direct write that takes long makes the opening fail, and not the other writes wait.
    PERFORM set_config('lock_timeout', '1s', true);
    LOCK TABLE {schema}.fronts IN SHARE ROW EXCLUSIVE MODE;
    SELECT * INTO front FROM {schema}.fronts f WHERE f.namespace = p_namespace;
    is_there := FOUND;
    is_own := is_there AND front.id = p_id AND (front.nonce = p_nonce OR front.nonce = ANY (p_known));
    is_held := is_there AND (front.until < 0 OR front.until > {schema}.now_ms());
    IF NOT p_takes_over AND NOT is_own THEN
        IF p_resumed OR is_held THEN
            RETURN QUERY SELECT CASE WHEN p_resumed THEN 'replaced' ELSE 'held' END, NULL::bigint, NULL::bigint;
            RETURN;
        END IF;
    END IF;
    highest := CASE WHEN is_there THEN front.high ELSE 0 END;
    -- While a front held the namespace, it alone has written, and its row has the highest version.
    IF NOT is_held THEN
        SELECT greatest(highest, max(r.version)) INTO highest
            FROM {schema}.records r JOIN {schema}.spaces s ON s.id = r.space
            WHERE s.namespace = p_namespace AND s.role = 'store';
        highest := coalesce(highest, 0);
    END IF;
    RETURN QUERY
        INSERT INTO {schema}.fronts AS f (namespace, id, nonce, term, high, until)
        VALUES (p_namespace, p_id, p_nonce, CASE WHEN is_there THEN front.term ELSE 0 END + 1, highest,
            CASE WHEN p_hold < 0 THEN -1 ELSE {schema}.now_ms() + p_hold END)
        ON CONFLICT (namespace) DO UPDATE SET id = excluded.id, nonce = excluded.nonce, term = excluded.term,
            high = excluded.high, until = excluded.until
        RETURNING NULL::text, f.term, f.high;
END
$function$;

-- Prolongs the hold, or ends it where `p_hold` is NULL. It returns whether the term is the last one.
CREATE OR REPLACE FUNCTION {schema}.front_hold(p_namespace text, p_term bigint, p_hold bigint) RETURNS boolean
LANGUAGE plpgsql VOLATILE {definer} AS $function$
BEGIN
    PERFORM {schema}.durable(true);
    IF p_hold IS NULL THEN
        UPDATE {schema}.fronts f SET id = 0, nonce = 0, term = f.term + 1, until = 0
            WHERE f.namespace = p_namespace AND f.term = p_term;
    ELSE
        UPDATE {schema}.fronts f SET until = CASE WHEN p_hold < 0 THEN -1 ELSE {schema}.now_ms() + p_hold END
            WHERE f.namespace = p_namespace AND f.term = p_term;
    END IF;
    RETURN FOUND;
END
$function$;

-- Writes puts and removals (no body) that a front has ordered. Digests are sorted and distinct. A write
-- replaces only an older record, an equal one counts as done, and where there is no record a version below
-- `now - half the life of its tombstone` is too old.
CREATE OR REPLACE FUNCTION {schema}.store_behind(
    p_space integer, p_term bigint, p_digests bytea[], p_keys bytea[], p_versions bigint[],
    p_tombstone_ttls bigint[], p_written bigint[], p_fresh bigint[], p_stale bigint[], p_expires bigint[],
    p_bodies bytea[]
) RETURNS TABLE (
    ord bigint, applied boolean, existed boolean, decided bigint, hit boolean, version bigint,
    written bigint, fresh_until bigint, stale_until bigint, expires_at bigint, body bytea, too_old boolean
) LANGUAGE plpgsql VOLATILE {definer} AS $function$
#variable_conflict use_column
DECLARE
    space_namespace text;
    space_tenant text;
    now_ms CONSTANT bigint := {schema}.now_ms();
BEGIN
    PERFORM {schema}.durable(true);
    -- Only a superuser may give a function this setting, so the body sets it, and ends it below.
    PERFORM set_config('terrace.logs', 'on', true);
    SELECT s.namespace, s.tenant INTO space_namespace, space_tenant FROM {schema}.spaces s WHERE s.id = p_space;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'the namespace is not known' USING ERRCODE = 'TR001';
    END IF;
    UPDATE {schema}.fronts f SET high = greatest(f.high, (SELECT max(v) FROM unnest(p_versions) AS v))
        WHERE f.namespace = space_namespace AND f.term = p_term;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'another front of the namespace was opened' USING ERRCODE = 'TR003';
    END IF;
    WITH written AS (
        INSERT INTO {schema}.records AS r
            (space, digest, key, state, version, epoch, token,
             written, fresh_until, stale_until, expires_at, body)
        SELECT p_space, u.digest, u.key, CASE WHEN u.body IS NULL THEN 'T' ELSE 'V' END, u.version, NULL, NULL,
            CASE WHEN u.body IS NULL THEN now_ms ELSE u.written END,
            CASE WHEN u.body IS NULL THEN u.tombstone_end ELSE u.fresh_until END,
            CASE WHEN u.body IS NULL THEN u.tombstone_end ELSE u.stale_until END,
            CASE WHEN u.body IS NULL THEN u.tombstone_end ELSE u.expires_at END, u.body
        FROM (SELECT n.*, CASE WHEN n.tombstone_ttl < 0 THEN -1 ELSE now_ms + n.tombstone_ttl END AS tombstone_end
            FROM unnest(p_digests, p_keys, p_versions, p_tombstone_ttls, p_written, p_fresh, p_stale, p_expires,
                p_bodies) AS n(digest, key, version, tombstone_ttl, written, fresh_until, stale_until,
                expires_at, body)) u
        LEFT JOIN {schema}.records there ON there.space = p_space AND there.digest = u.digest
        WHERE there.digest IS NOT NULL OR u.tombstone_ttl < 0
            OR now_ms * 1000 - u.version <= u.tombstone_ttl * 500
        ORDER BY u.digest
        ON CONFLICT (space, digest) DO UPDATE
        SET state = excluded.state, version = excluded.version, epoch = NULL, token = NULL,
            written = excluded.written, fresh_until = excluded.fresh_until, stale_until = excluded.stale_until,
            expires_at = excluded.expires_at, body = excluded.body
        WHERE r.version < excluded.version
        RETURNING r.key, r.version
    )
    INSERT INTO {schema}.outbox (namespace, tenant, key, version)
        SELECT space_namespace, space_tenant, w.key, w.version FROM written w;
    RETURN QUERY
    SELECT u.ord, r.version IS NOT DISTINCT FROM u.version, false, coalesce(r.version, 0),
        r.version > u.version AND r.state IN ('V', 'N') AND (r.expires_at < 0 OR r.expires_at > now_ms),
        r.version, r.written, r.fresh_until, r.stale_until, r.expires_at,
        CASE WHEN r.version > u.version THEN r.body END, r.version IS NULL
    FROM unnest(p_digests, p_versions) WITH ORDINALITY AS u(digest, version, ord)
    LEFT JOIN {schema}.records r ON r.space = p_space AND r.digest = u.digest
    ORDER BY u.ord;
    PERFORM set_config('terrace.logs', '', true);
END
$function$;
