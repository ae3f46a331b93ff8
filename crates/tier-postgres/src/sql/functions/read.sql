-- Plain reads for a role that may not SELECT from the tables. A role that may reads them directly: the
-- call of a function costs the server two thirds more.
-- {role} store or cache, {table} records or cache_entries.
CREATE OR REPLACE FUNCTION {schema}.{role}_get(p_space integer, p_digests bytea[]) RETURNS TABLE (
    version bigint, state "char", written bigint, fresh_until bigint, stale_until bigint, expires_at bigint,
    body bytea, clock timestamptz, digest bytea
) LANGUAGE plpgsql STABLE {definer} AS $function$
#variable_conflict use_column
BEGIN
    RETURN QUERY SELECT {cell}, digest FROM {schema}.{table}
        WHERE space = p_space AND digest = ANY (p_digests) {current};
END
$function$;
