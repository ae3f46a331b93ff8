-- A tenant's name as the table `spaces` stores it.
CREATE OR REPLACE FUNCTION {schema}.tenant_name(tenant text) RETURNS text LANGUAGE sql IMMUTABLE AS $function$
    SELECT CASE WHEN tenant IS NULL THEN '' WHEN tenant = '' THEN '\e' ELSE replace(tenant, '\', '\\') END
$function$;

-- The bytes of a key as the cache encodes them; those of a tuple come from its elements.
CREATE OR REPLACE FUNCTION {schema}.key(part text) RETURNS bytea LANGUAGE sql IMMUTABLE
    AS $function$ SELECT convert_to(part, 'UTF8') $function$;
CREATE OR REPLACE FUNCTION {schema}.key(part bigint) RETURNS bytea LANGUAGE sql IMMUTABLE
    AS $function$ SELECT int8send(part) $function$;
CREATE OR REPLACE FUNCTION {schema}.key(part uuid) RETURNS bytea LANGUAGE sql IMMUTABLE
    AS $function$ SELECT uuid_send(part) $function$;
CREATE OR REPLACE FUNCTION {schema}.key(part bytea) RETURNS bytea LANGUAGE sql IMMUTABLE
    AS $function$ SELECT part $function$;
CREATE OR REPLACE FUNCTION {schema}.key(part boolean) RETURNS bytea LANGUAGE sql IMMUTABLE
    AS $function$ SELECT boolsend(part) $function$;
CREATE OR REPLACE FUNCTION {schema}.key(VARIADIC parts bytea[]) RETURNS bytea LANGUAGE sql IMMUTABLE AS $function$
    SELECT string_agg(int4send(octet_length(part)) || part, ''::bytea ORDER BY ord)
    FROM unnest(parts) WITH ORDINALITY AS p(part, ord)
$function$;

-- The bytes by which tiers and logs know a key: those of `key`, or its digest if they are longer than a cache
-- keeps. A short key that looks like a digest is digested too, so that no two keys have the same bytes.
CREATE OR REPLACE FUNCTION {schema}.shared_key(key bytea) RETURNS bytea LANGUAGE sql IMMUTABLE AS $function$
    SELECT CASE
        WHEN octet_length(key) > 4096
            OR octet_length(key) = 40 AND substring(key FROM 1 FOR 8) = '\xd95452436b6579ff'::bytea
        THEN '\xd95452436b6579ff'::bytea || sha256(key)
        ELSE key
    END
$function$;

-- Invalidates the copies of a key, which a program may also take from the cache (`Cache::name_of`). Call it in the transaction that changes the origin. Without a key it
-- invalidates all copies of the namespace and tenant.
CREATE OR REPLACE FUNCTION {schema}.invalidate(namespace text, tenant text, key bytea) RETURNS void
LANGUAGE sql {definer} AS $function$
    INSERT INTO {schema}.outbox (namespace, tenant, key)
    VALUES (
        invalidate.namespace,
        {schema}.tenant_name(invalidate.tenant),
        CASE
            WHEN octet_length(invalidate.key) > 4096 THEN {schema}.shared_key(invalidate.key)
            ELSE invalidate.key
        END
    )
$function$;

