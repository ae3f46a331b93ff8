-- Applies operations that read a cell before they change it. It does what `transition` of terrace-tier
-- says, key by key, under the lock of the row. This file is used twice:
-- {role} store or cache, {table} records or cache_entries, {store} true or false.
--
-- The caller sorts by digest, so that overlapping batches cannot deadlock.
CREATE OR REPLACE FUNCTION {schema}.{role}_apply(
    p_space integer, p_digests bytea[], p_keys bytea[], p_kinds text[], p_tokens bigint[],
    p_seen bigint[], p_versions bigint[], p_tombstone_ttls bigint[], p_written bigint[],
    p_fresh bigint[], p_stale bigint[], p_expires bigint[], p_bodies bytea[]
) RETURNS TABLE (
    ord bigint, applied boolean, existed boolean, decided bigint, hit boolean, version bigint,
    written bigint, fresh_until bigint, stale_until bigint, expires_at bigint, body bytea
) LANGUAGE plpgsql VOLATILE {definer} AS $function$
#variable_conflict use_column
DECLARE
    store CONSTANT boolean := {store};
    request record;
    cell {schema}.{table};
    epoch_now bigint;
    space_namespace text;
    space_tenant text;
    micros bigint;
    now_ms bigint;
    tombstone_end bigint;
    floor_version bigint;
    issued bigint;
    present boolean;
    live boolean;
    entry boolean;
    is_value boolean;
    leased boolean;
    action text;
    logged_keys bytea[] := '{}';
    logged_versions bigint[] := '{}';
BEGIN
    PERFORM {schema}.durable({store});
    -- Only a superuser may give a function this setting, so the body sets it, and ends it below.
    PERFORM set_config('terrace.logs', 'on', true);
    SELECT s.epoch, s.namespace, s.tenant INTO epoch_now, space_namespace, space_tenant
        FROM {schema}.spaces s WHERE s.id = p_space;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'the namespace is not known' USING ERRCODE = 'TR001';
    END IF;
    IF store THEN
        PERFORM {schema}.permit_direct_write(space_namespace);
    END IF;
    FOR request IN
        SELECT * FROM unnest(p_digests, p_keys, p_kinds, p_tokens, p_seen, p_versions, p_tombstone_ttls,
                             p_written, p_fresh, p_stale, p_expires, p_bodies) WITH ORDINALITY
            AS u(digest, key, kind, token, seen, version, tombstone_ttl,
                 written, fresh_until, stale_until, expires_at, body, ord)
    LOOP
        LOOP
            SELECT * INTO cell FROM {schema}.{table} r
                WHERE r.space = p_space AND r.digest = request.digest FOR UPDATE;
            present := FOUND;
            -- The clock is read under the lock, so that the versions of a key rise with it.
            micros := extract(epoch FROM clock_timestamp()) * 1000000;
            now_ms := micros / 1000;
            tombstone_end := CASE WHEN request.tombstone_ttl < 0 THEN -1 ELSE now_ms + request.tombstone_ttl END;
            floor_version := CASE WHEN present THEN cell.version ELSE 0 END;
            issued := least(greatest(floor_version + 1, micros), 9007199254740991);
            live := present AND (store OR cell.epoch = epoch_now)
                AND (cell.expires_at < 0 OR cell.expires_at > now_ms);
            entry := live AND cell.state IN ('V', 'N');
            is_value := live AND cell.state = 'V';
            leased := live AND cell.state = 'L';

            action := 'keep';
            applied := false;
            existed := is_value;
            decided := floor_version;
            CASE request.kind
                WHEN 'fill' THEN
                    IF store THEN
                        IF NOT is_value AND floor_version = request.seen THEN
                            action := 'write';
                            decided := issued;
                        END IF;
                    ELSIF live AND cell.token = request.token AND request.version >= floor_version THEN
                        action := 'write';
                        decided := request.version;
                    END IF;
                WHEN 'put' THEN
                    action := 'write';
                    decided := issued;
                WHEN 'put_absent' THEN
                    IF NOT is_value THEN
                        action := 'write';
                        decided := issued;
                    END IF;
                WHEN 'put_version' THEN
                    IF is_value AND cell.version = request.seen THEN
                        action := 'write';
                        decided := issued;
                    END IF;
                WHEN 'put_follow' THEN
                    IF NOT (entry OR (leased AND floor_version >= request.version)) THEN
                        action := 'tombstone';
                        decided := greatest(floor_version, request.version);
                    ELSIF cell.version < request.version THEN
                        action := 'write';
                        decided := request.version;
                    END IF;
                WHEN 'put_unfenced' THEN
                    action := 'write';
                    decided := request.version;
                WHEN 'invalidate' THEN
                    IF request.seen IS NOT NULL AND (entry OR leased) AND floor_version >= request.seen THEN
                        existed := false;
                    ELSE
                        action := 'tombstone';
                        decided := greatest(floor_version, coalesce(request.seen, 0));
                    END IF;
                WHEN 'remove' THEN
                    action := 'tombstone';
                    decided := issued;
                WHEN 'expire' THEN
                    IF is_value THEN
                        action := 'expire';
                    END IF;
            END CASE;

            IF action = 'write' THEN
                applied := true;
            ELSIF action = 'tombstone' THEN
                request.written := now_ms;
                request.fresh_until := tombstone_end;
                request.stale_until := tombstone_end;
                request.expires_at := tombstone_end;
                request.body := NULL;
            END IF;

            IF action = 'expire' THEN
                UPDATE {schema}.{table} r
                    SET written = request.written, fresh_until = request.fresh_until,
                        stale_until = request.stale_until, expires_at = request.expires_at
                    WHERE r.space = p_space AND r.digest = request.digest;
            ELSIF action <> 'keep' AND present THEN
                UPDATE {schema}.{table} r
                    SET state = CASE WHEN action = 'tombstone' THEN 'T' WHEN request.body IS NULL THEN 'N' ELSE 'V' END,
                        version = decided, token = NULL,
                        epoch = CASE WHEN store THEN NULL ELSE epoch_now END,
                        written = request.written, fresh_until = request.fresh_until,
                        stale_until = request.stale_until, expires_at = request.expires_at, body = request.body
                    WHERE r.space = p_space AND r.digest = request.digest;
            ELSIF action <> 'keep' THEN
                INSERT INTO {schema}.{table} AS r
                    (space, digest, key, state, version, epoch, token,
                     written, fresh_until, stale_until, expires_at, body)
                    VALUES (p_space, request.digest, request.key,
                        CASE WHEN action = 'tombstone' THEN 'T' WHEN request.body IS NULL THEN 'N' ELSE 'V' END,
                        decided, CASE WHEN store THEN NULL ELSE epoch_now END, NULL,
                        request.written, request.fresh_until, request.stale_until, request.expires_at, request.body)
                    ON CONFLICT (space, digest) DO NOTHING;
                -- Another session inserted the row in the meantime: read it under its lock.
                CONTINUE WHEN NOT FOUND;
            END IF;
            EXIT;
        END LOOP;

        ord := request.ord;
        hit := NOT applied AND entry;
        version := cell.version;
        written := cell.written;
        fresh_until := cell.fresh_until;
        stale_until := cell.stale_until;
        expires_at := cell.expires_at;
        -- The value that won. Only a refused fill or put returns it.
        body := CASE WHEN hit AND request.kind NOT IN ('invalidate', 'remove', 'expire') THEN cell.body END;
        RETURN NEXT;

        -- The outbox gets a row for each write and removal, even if the cell did not change: other copies
        -- may be older. It gets none for the fill of a copy, nor for an unfenced put.
        IF request.kind IN ('put_follow', 'invalidate', 'remove') OR action = 'expire'
            OR (applied AND request.kind <> 'put_unfenced' AND (store OR request.kind <> 'fill')) THEN
            logged_keys := logged_keys || request.key;
            logged_versions := logged_versions || CASE request.kind
                WHEN 'put_follow' THEN request.version
                WHEN 'invalidate' THEN request.seen
                -- The version stays the same, with other deadlines.
                WHEN 'expire' THEN NULL
                ELSE decided END;
        END IF;
    END LOOP;
    IF cardinality(logged_keys) > 0 THEN
        INSERT INTO {schema}.outbox (namespace, tenant, key, version, of_copies)
            SELECT space_namespace, space_tenant, l.key, l.version, NOT store
            FROM unnest(logged_keys, logged_versions) AS l(key, version);
    END IF;
    PERFORM set_config('terrace.logs', '', true);
END
$function$;

-- Writes many keys without a condition: one upsert. Digests are sorted and distinct. A given version is
-- used as it is; else the next one is issued under the lock of the row.
CREATE OR REPLACE FUNCTION {schema}.{role}_put(
    p_space integer, p_digests bytea[], p_keys bytea[], p_versions bigint[], p_written bigint[],
    p_fresh bigint[], p_stale bigint[], p_expires bigint[], p_bodies bytea[]
) RETURNS TABLE (digest bytea, version bigint)
LANGUAGE plpgsql VOLATILE {definer} AS $function$
#variable_conflict use_column
DECLARE
    store CONSTANT boolean := {store};
    epoch_now bigint;
    space_namespace text;
    space_tenant text;
BEGIN
    PERFORM {schema}.durable({store});
    -- Only a superuser may give a function this setting, so the body sets it, and ends it below.
    PERFORM set_config('terrace.logs', 'on', true);
    SELECT s.epoch, s.namespace, s.tenant INTO epoch_now, space_namespace, space_tenant
        FROM {schema}.spaces s WHERE s.id = p_space;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'the namespace is not known' USING ERRCODE = 'TR001';
    END IF;
    IF store THEN
        PERFORM {schema}.permit_direct_write(space_namespace);
    END IF;
    RETURN QUERY
    WITH written AS (
        INSERT INTO {schema}.{table} AS r
            (space, digest, key, state, version, epoch, token,
             written, fresh_until, stale_until, expires_at, body)
        SELECT p_space, u.digest, u.key, CASE WHEN u.body IS NULL THEN 'N' ELSE 'V' END,
            coalesce(u.version, least({schema}.micros(), 9007199254740991)),
            CASE WHEN store THEN NULL ELSE epoch_now END, NULL,
            u.written, u.fresh_until, u.stale_until, u.expires_at, u.body
        FROM unnest(p_digests, p_keys, p_versions, p_written, p_fresh, p_stale, p_expires, p_bodies)
            WITH ORDINALITY
            AS u(digest, key, version, written, fresh_until, stale_until, expires_at, body, ord)
        ORDER BY u.digest
        ON CONFLICT (space, digest) DO UPDATE
        SET state = excluded.state,
            version = CASE WHEN p_versions[1] IS NOT NULL THEN excluded.version
                ELSE least(greatest(r.version + 1, {schema}.micros()), 9007199254740991) END,
            epoch = excluded.epoch, token = NULL, written = excluded.written,
            fresh_until = excluded.fresh_until, stale_until = excluded.stale_until,
            expires_at = excluded.expires_at, body = excluded.body
        RETURNING r.digest, r.key, r.version
    ), logged AS (
        INSERT INTO {schema}.outbox (namespace, tenant, key, version, of_copies)
        SELECT space_namespace, space_tenant, w.key, w.version, NOT store FROM written w WHERE p_versions[1] IS NULL
    )
    SELECT w.digest, w.version FROM written w;
    PERFORM set_config('terrace.logs', '', true);
END
$function$;
