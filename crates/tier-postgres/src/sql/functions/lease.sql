-- Gives a value or a lease for each key of a cache, as `transition` says. A hit writes nothing.
CREATE OR REPLACE FUNCTION {schema}.cache_lease(
    p_space integer, p_digests bytea[], p_keys bytea[], p_tokens bigint[], p_ttls bigint[],
    p_over bigint[], p_replaces bigint[]
) RETURNS TABLE (
    ord bigint, token bigint, next_version bigint, version bigint, state "char",
    written bigint, fresh_until bigint, stale_until bigint, expires_at bigint, body bytea
) LANGUAGE plpgsql VOLATILE {definer} AS $function$
#variable_conflict use_column
DECLARE
    request record;
    cell {schema}.cache_entries;
    epoch_now bigint;
    micros bigint;
    now_ms bigint;
    lease_end bigint;
    present boolean;
    locked boolean;
    live boolean;
BEGIN
    SELECT s.epoch INTO epoch_now FROM {schema}.spaces s WHERE s.id = p_space;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'the namespace is not known' USING ERRCODE = 'TR001';
    END IF;
    FOR request IN
        SELECT * FROM unnest(p_digests, p_keys, p_tokens, p_ttls, p_over, p_replaces) WITH ORDINALITY
            AS u(digest, key, token, ttl, over, replaces, ord)
    LOOP
        ord := request.ord;
        locked := false;
        LOOP
            IF locked THEN
                SELECT * INTO cell FROM {schema}.cache_entries r
                    WHERE r.space = p_space AND r.digest = request.digest FOR UPDATE;
            ELSE
                SELECT * INTO cell FROM {schema}.cache_entries r
                    WHERE r.space = p_space AND r.digest = request.digest;
            END IF;
            present := FOUND;
            micros := extract(epoch FROM clock_timestamp()) * 1000000;
            now_ms := micros / 1000;
            lease_end := CASE WHEN request.ttl < 0 THEN -1 ELSE now_ms + request.ttl END;
            live := present AND cell.epoch = epoch_now
                AND (cell.expires_at < 0 OR cell.expires_at > now_ms);
            IF live AND cell.state IN ('V', 'N') AND cell.version IS DISTINCT FROM request.over THEN
                token := NULL;
                next_version := NULL;
                version := cell.version;
                state := cell.state;
                written := cell.written;
                fresh_until := cell.fresh_until;
                stale_until := cell.stale_until;
                expires_at := cell.expires_at;
                body := cell.body;
                EXIT;
            END IF;
            IF present AND NOT locked THEN
                locked := true;
                CONTINUE;
            END IF;
            token := CASE WHEN live AND cell.state <> 'T' AND cell.token IS NOT NULL
                AND cell.token IS DISTINCT FROM request.replaces THEN cell.token ELSE request.token END;
            IF NOT present THEN
                INSERT INTO {schema}.cache_entries
                    (space, digest, key, state, version, epoch, token,
                     written, fresh_until, stale_until, expires_at, body)
                    VALUES (p_space, request.digest, request.key, 'L', 0, epoch_now, token,
                        now_ms, lease_end, lease_end, lease_end, NULL)
                    ON CONFLICT (space, digest) DO NOTHING;
                CONTINUE WHEN NOT FOUND;
                cell.version := 0;
            ELSIF live AND cell.state IN ('V', 'N') THEN
                -- The entry is about to be replaced. It stays while the new value is loaded.
                UPDATE {schema}.cache_entries r SET token = cache_lease.token
                    WHERE r.space = p_space AND r.digest = request.digest;
            ELSIF NOT live OR cell.state = 'T'
                OR (cell.expires_at >= 0 AND (lease_end < 0 OR lease_end > cell.expires_at)) THEN
                UPDATE {schema}.cache_entries r
                    SET state = 'L', epoch = epoch_now, token = cache_lease.token, written = now_ms,
                        fresh_until = lease_end, stale_until = lease_end, expires_at = lease_end,
                        body = NULL
                    WHERE r.space = p_space AND r.digest = request.digest;
            ELSIF cell.token IS DISTINCT FROM cache_lease.token THEN
                UPDATE {schema}.cache_entries r SET token = cache_lease.token
                    WHERE r.space = p_space AND r.digest = request.digest;
            END IF;
            next_version := least(greatest(cell.version + 1, micros), 9007199254740991);
            version := cell.version;
            state := 'L';
            written := NULL;
            fresh_until := NULL;
            stale_until := NULL;
            expires_at := NULL;
            body := NULL;
            EXIT;
        END LOOP;
        RETURN NEXT;
    END LOOP;
END
$function$;

-- The status of leases that other processes hold: C the cell has changed, F free again, A its holder is
-- alive, S the holder is silent.
CREATE OR REPLACE FUNCTION {schema}.lease_status(p_spaces integer[], p_digests bytea[], p_tokens bigint[])
RETURNS TABLE (status "char") LANGUAGE sql VOLATILE {definer} AS $function$
    SELECT CASE
        WHEN e.token IS DISTINCT FROM u.token OR e.epoch IS DISTINCT FROM s.epoch
            OR e.expires_at BETWEEN 0 AND c.now_ms THEN 'C'
        WHEN l.given_back THEN 'F' WHEN l.token IS NOT NULL THEN 'A' ELSE 'S' END::"char"
    FROM unnest(p_spaces, p_digests, p_tokens) WITH ORDINALITY AS u(space, digest, token, ord)
    CROSS JOIN (SELECT {schema}.now_ms()) AS c(now_ms)
    LEFT JOIN {schema}.cache_entries e ON e.space = u.space AND e.digest = u.digest
    LEFT JOIN {schema}.spaces s ON s.id = u.space
    LEFT JOIN {schema}.lease_signs l ON l.token = u.token AND l.expires_at > c.now_ms
    ORDER BY u.ord
$function$;

-- Records a sign of life, or the release, of leases. Tokens are sorted, so that two processes that lock
-- the same rows cannot deadlock. A sign of life that comes after the release must not hide the release.
CREATE OR REPLACE FUNCTION {schema}.lease_sign(p_tokens bigint[], p_lifetime_ms bigint, p_released boolean)
RETURNS void LANGUAGE sql VOLATILE {definer} AS $function$
    INSERT INTO {schema}.lease_signs AS l (token, given_back, expires_at)
    SELECT u.token, p_released, {schema}.now_ms() + p_lifetime_ms FROM unnest(p_tokens) AS u(token)
    ON CONFLICT (token) DO UPDATE SET given_back = excluded.given_back, expires_at = excluded.expires_at
    WHERE NOT l.given_back OR excluded.given_back
$function$;
