-- Adds to counters of a group, all in one step. Beyond the limit of names a new one is counted as `p_other`.
-- The names are distinct, and sorted here, so that two processes that lock the same rows cannot deadlock.
CREATE OR REPLACE FUNCTION {schema}.counters_add(
    p_group text, p_names text[], p_deltas bigint[], p_limit integer, p_other text
) RETURNS void LANGUAGE sql {definer} AS $function$
    WITH given AS MATERIALIZED (
        SELECT g.name, g.delta, EXISTS (
                SELECT FROM {schema}.counters c WHERE c.of_group = p_group AND c.name = g.name) AS known
        FROM unnest(p_names, p_deltas) AS g(name, delta)
    ), counted AS (
        SELECT CASE WHEN known OR used + row_number() OVER (PARTITION BY known ORDER BY name) <= p_limit
            THEN name ELSE p_other END AS name, delta
        FROM given, (SELECT count(*) AS used FROM {schema}.counters c WHERE c.of_group = p_group) AS present
    )
    INSERT INTO {schema}.counters AS c (of_group, name, total)
    SELECT p_group, name, sum(delta)::bigint FROM counted GROUP BY name ORDER BY name
    ON CONFLICT (of_group, name) DO UPDATE SET total = c.total + excluded.total;
$function$;

CREATE OR REPLACE FUNCTION {schema}.counters_read(p_group text)
RETURNS TABLE (name text, total bigint) LANGUAGE sql STABLE {definer} AS $function$
    SELECT c.name, c.total FROM {schema}.counters c WHERE c.of_group = p_group;
$function$;
