-- The rows of namespaces: how a process finds its own, and how a clear makes all copies dead.

-- The version of the schema. It is the newest one that a program made.
CREATE OR REPLACE FUNCTION {schema}.schema_version() RETURNS integer LANGUAGE sql STABLE {definer}
    AS $function$ SELECT coalesce(max(version), 0) FROM {schema}.migrations $function$;

CREATE OR REPLACE FUNCTION {schema}.space_find(p_namespace text, p_tenant text, p_role text)
RETURNS TABLE (id integer, level text, value_schema bigint, value_shape bigint)
LANGUAGE sql STABLE {definer} AS $function$
    SELECT s.id, s.level, s.value_schema, s.value_shape FROM {schema}.spaces s
    WHERE s.namespace = p_namespace AND s.tenant = p_tenant AND s.role = p_role
$function$;

-- If the other role uses the namespace, the new row gets no level: the check of its options then refuses
-- this role and not the earlier one.
CREATE OR REPLACE FUNCTION {schema}.space_add(
    p_namespace text, p_tenant text, p_role text, p_epoch bigint, p_level text, p_schema bigint, p_shape bigint
) RETURNS void LANGUAGE sql VOLATILE {definer} AS $function$
    INSERT INTO {schema}.spaces (namespace, tenant, role, epoch, level, value_schema, value_shape)
    SELECT p_namespace, p_tenant, p_role, p_epoch, CASE WHEN taken THEN NULL ELSE p_level END, p_schema, p_shape
    FROM (SELECT EXISTS (SELECT FROM {schema}.spaces s
        WHERE s.namespace = p_namespace AND s.role <> p_role AND s.level IS NOT NULL) AS taken) o
    ON CONFLICT (namespace, tenant, role) DO NOTHING
$function$;

CREATE OR REPLACE FUNCTION {schema}.space_set_options(p_id integer, p_level text, p_schema bigint, p_shape bigint)
RETURNS void LANGUAGE sql VOLATILE {definer} AS $function$
    UPDATE {schema}.spaces SET level = p_level, value_schema = p_schema, value_shape = p_shape WHERE id = p_id
$function$;

-- Whether the namespace is used in the other role.
CREATE OR REPLACE FUNCTION {schema}.space_in_other_role(p_namespace text, p_role text) RETURNS boolean
LANGUAGE sql STABLE {definer} AS $function$
    SELECT EXISTS (SELECT FROM {schema}.spaces s
        WHERE s.namespace = p_namespace AND s.role <> p_role AND s.level IS NOT NULL)
$function$;

-- Gives the copies of a tenant a new epoch. Without a tenant it does so for all tenants, sorted, so that
-- two clears cannot deadlock.
CREATE OR REPLACE FUNCTION {schema}.space_clear(p_id integer, p_epoch bigint) RETURNS void
LANGUAGE sql VOLATILE {definer} AS $function$
    WITH own AS (SELECT namespace, tenant, role FROM {schema}.spaces WHERE id = p_id),
    meant AS MATERIALIZED (
        SELECT s.id FROM {schema}.spaces s JOIN own USING (namespace, role)
        WHERE own.tenant IN ('', s.tenant) ORDER BY s.id FOR UPDATE OF s
    ), cleared AS (
        UPDATE {schema}.spaces s SET epoch = p_epoch, sweep = true FROM meant WHERE s.id = meant.id
    ) INSERT INTO {schema}.outbox (namespace, tenant, of_copies)
    SELECT namespace, tenant, true FROM own
$function$;
