-- The operations that look at a cell before they change it, exactly as `transition` of
-- terrace-core says, key by key under the row lock. Instantiated twice:
-- {role} store or cache, {table} records or cache_entries, {store} true or false.
--
-- The caller sorts by digest, so that overlapping batches never wait for each other in a circle.
CREATE OR REPLACE FUNCTION {schema}.{role}_apply(
    p_space integer, p_digests bytea[], p_keys bytea[], p_kinds text[], p_tokens bigint[],
    p_seen bigint[], p_versions bigint[], p_tombstone_ttls bigint[], p_written bigint[],
    p_fresh bigint[], p_stale bigint[], p_expires bigint[], p_bodies bytea[]
) RETURNS TABLE (
    ord bigint, applied boolean, existed boolean, decided bigint, hit boolean, version bigint,
    written bigint, fresh_until bigint, stale_until bigint, expires_at bigint, body bytea
) LANGUAGE plpgsql VOLATILE SET terrace.logs = 'on' AS $function$
#variable_conflict use_column
DECLARE
    store CONSTANT boolean := {store};
    ask record;
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
    act text;
    logged_keys bytea[] := '{}';
    logged_versions bigint[] := '{}';
BEGIN
    PERFORM {schema}.durable({store});
    SELECT s.epoch, s.namespace, s.tenant INTO epoch_now, space_namespace, space_tenant
        FROM {schema}.spaces s WHERE s.id = p_space;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'the namespace is not known' USING ERRCODE = 'TR001';
    END IF;
    FOR ask IN
        SELECT * FROM unnest(p_digests, p_keys, p_kinds, p_tokens, p_seen, p_versions, p_tombstone_ttls,
                             p_written, p_fresh, p_stale, p_expires, p_bodies) WITH ORDINALITY
            AS u(digest, key, kind, token, seen, version, tombstone_ttl,
                 written, fresh_until, stale_until, expires_at, body, ord)
    LOOP
        LOOP
            SELECT * INTO cell FROM {schema}.{table} r
                WHERE r.space = p_space AND r.digest = ask.digest FOR UPDATE;
            present := FOUND;
            -- Read under the lock, so that versions and clock agree for a key.
            micros := extract(epoch FROM clock_timestamp()) * 1000000;
            now_ms := micros / 1000;
            tombstone_end := CASE WHEN ask.tombstone_ttl < 0 THEN -1 ELSE now_ms + ask.tombstone_ttl END;
            floor_version := CASE WHEN present THEN cell.version ELSE 0 END;
            issued := least(greatest(floor_version + 1, micros), 9007199254740991);
            live := present AND (store OR cell.epoch = epoch_now)
                AND (cell.expires_at < 0 OR cell.expires_at > now_ms);
            entry := live AND cell.state IN ('V', 'N');
            is_value := live AND cell.state = 'V';
            leased := live AND cell.state = 'L';

            act := 'keep';
            applied := false;
            existed := is_value;
            decided := floor_version;
            CASE ask.kind
                WHEN 'fill' THEN
                    IF store THEN
                        IF NOT is_value AND floor_version = ask.seen THEN
                            act := 'write';
                            decided := issued;
                        END IF;
                    ELSIF live AND cell.token = ask.token AND ask.version >= floor_version THEN
                        act := 'write';
                        decided := ask.version;
                    END IF;
                WHEN 'put' THEN
                    act := 'write';
                    decided := issued;
                WHEN 'put_absent' THEN
                    IF NOT is_value THEN
                        act := 'write';
                        decided := issued;
                    END IF;
                WHEN 'put_version' THEN
                    IF is_value AND cell.version = ask.seen THEN
                        act := 'write';
                        decided := issued;
                    END IF;
                WHEN 'put_follow' THEN
                    IF NOT (entry OR (leased AND floor_version >= ask.version)) THEN
                        act := 'tombstone';
                        decided := greatest(floor_version, ask.version);
                    ELSIF cell.version < ask.version THEN
                        act := 'write';
                        decided := ask.version;
                    END IF;
                WHEN 'put_open' THEN
                    act := 'write';
                    decided := ask.version;
                WHEN 'invalidate' THEN
                    IF ask.seen IS NOT NULL AND (entry OR leased) AND floor_version >= ask.seen THEN
                        existed := false;
                    ELSE
                        act := 'tombstone';
                        decided := greatest(floor_version, coalesce(ask.seen, 0));
                    END IF;
                WHEN 'remove' THEN
                    act := 'tombstone';
                    decided := issued;
                WHEN 'expire' THEN
                    IF is_value THEN
                        act := 'expire';
                    END IF;
            END CASE;

            IF act = 'write' THEN
                applied := true;
            ELSIF act = 'tombstone' THEN
                ask.written := now_ms;
                ask.fresh_until := tombstone_end;
                ask.stale_until := tombstone_end;
                ask.expires_at := tombstone_end;
                ask.body := NULL;
            END IF;

            IF act = 'expire' THEN
                UPDATE {schema}.{table} r
                    SET written = ask.written, fresh_until = ask.fresh_until,
                        stale_until = ask.stale_until, expires_at = ask.expires_at
                    WHERE r.space = p_space AND r.digest = ask.digest;
            ELSIF act <> 'keep' AND present THEN
                UPDATE {schema}.{table} r
                    SET state = CASE WHEN act = 'tombstone' THEN 'T' WHEN ask.body IS NULL THEN 'N' ELSE 'V' END,
                        version = decided, token = NULL,
                        epoch = CASE WHEN store THEN NULL ELSE epoch_now END,
                        written = ask.written, fresh_until = ask.fresh_until,
                        stale_until = ask.stale_until, expires_at = ask.expires_at, body = ask.body
                    WHERE r.space = p_space AND r.digest = ask.digest;
            ELSIF act <> 'keep' THEN
                INSERT INTO {schema}.{table} AS r
                    (space, digest, key, state, version, epoch, token,
                     written, fresh_until, stale_until, expires_at, body)
                    VALUES (p_space, ask.digest, ask.key,
                        CASE WHEN act = 'tombstone' THEN 'T' WHEN ask.body IS NULL THEN 'N' ELSE 'V' END,
                        decided, CASE WHEN store THEN NULL ELSE epoch_now END, NULL,
                        ask.written, ask.fresh_until, ask.stale_until, ask.expires_at, ask.body)
                    ON CONFLICT (space, digest) DO NOTHING;
                -- Another session created the row meanwhile: look at it under its lock.
                CONTINUE WHEN NOT FOUND;
            END IF;
            EXIT;
        END LOOP;

        ord := ask.ord;
        hit := NOT applied AND entry;
        version := cell.version;
        written := cell.written;
        fresh_until := cell.fresh_until;
        stale_until := cell.stale_until;
        expires_at := cell.expires_at;
        -- The record that won: only a refused fill or put asks for it.
        body := CASE WHEN hit AND ask.kind NOT IN ('invalidate', 'remove', 'expire') THEN cell.body END;
        RETURN NEXT;

        -- Every write and removal, whether or not it changed the cell: other copies may be older.
        -- Not the fill of a copy, nor a put without an order.
        IF ask.kind IN ('put_follow', 'invalidate', 'remove') OR act = 'expire'
            OR (applied AND ask.kind <> 'put_open' AND (store OR ask.kind <> 'fill')) THEN
            logged_keys := logged_keys || ask.key;
            logged_versions := logged_versions || CASE ask.kind
                WHEN 'put_follow' THEN ask.version
                WHEN 'invalidate' THEN ask.seen
                -- The same version with another life.
                WHEN 'expire' THEN NULL
                ELSE decided END;
        END IF;
    END LOOP;
    IF cardinality(logged_keys) > 0 THEN
        INSERT INTO {schema}.outbox (namespace, tenant, key, version, of_copies)
            SELECT space_namespace, space_tenant, l.key, l.version, NOT store
            FROM unnest(logged_keys, logged_versions) AS l(key, version);
    END IF;
END
$function$;

-- Unconditional writes of many keys: one upsert. Digests are sorted and distinct. A version given
-- is taken as it is; else the next one is issued under the row lock.
CREATE OR REPLACE FUNCTION {schema}.{role}_put(
    p_space integer, p_digests bytea[], p_keys bytea[], p_versions bigint[], p_written bigint[],
    p_fresh bigint[], p_stale bigint[], p_expires bigint[], p_bodies bytea[]
) RETURNS TABLE (digest bytea, version bigint)
LANGUAGE plpgsql VOLATILE SET terrace.logs = 'on' AS $function$
#variable_conflict use_column
DECLARE
    store CONSTANT boolean := {store};
    epoch_now bigint;
    space_namespace text;
    space_tenant text;
BEGIN
    PERFORM {schema}.durable({store});
    SELECT s.epoch, s.namespace, s.tenant INTO epoch_now, space_namespace, space_tenant
        FROM {schema}.spaces s WHERE s.id = p_space;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'the namespace is not known' USING ERRCODE = 'TR001';
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
END
$function$;
