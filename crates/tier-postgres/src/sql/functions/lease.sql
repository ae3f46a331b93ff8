-- The server's clock at the moment of the call, in microseconds since 1970.
CREATE FUNCTION {schema}.micros() RETURNS bigint LANGUAGE sql VOLATILE
    AS $function$ SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint $function$;

-- The server's clock at the moment of the call, in whole milliseconds since 1970.
CREATE FUNCTION {schema}.now_ms() RETURNS bigint LANGUAGE sql VOLATILE
    AS $function$ SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint / 1000 $function$;

-- A record must survive a crash once its write is acknowledged, whatever the defaults of the server, the
-- database or the role are. A cached copy need not: a crash empties its table.
CREATE FUNCTION {schema}.durable(is_record boolean) RETURNS void LANGUAGE plpgsql VOLATILE AS $function$
BEGIN
    IF is_record AND current_setting('synchronous_commit') = 'off' THEN
        PERFORM set_config('synchronous_commit', 'on', true);
    END IF;
END
$function$;

-- Gives a value or a lease for each key of a cache, as `transition` says. A hit writes nothing.
CREATE FUNCTION {schema}.cache_lease(
    p_space integer, p_digests bytea[], p_keys bytea[], p_tokens bigint[], p_ttls bigint[],
    p_over bigint[], p_replaces bigint[]
) RETURNS TABLE (
    ord bigint, token bigint, next_version bigint, version bigint, state "char",
    written bigint, fresh_until bigint, stale_until bigint, expires_at bigint, body bytea
) LANGUAGE plpgsql VOLATILE AS $function$
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
