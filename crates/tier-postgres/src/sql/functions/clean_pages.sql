-- Deletes the expired rows in a part of {table}, by the order of the table itself. It returns where the
-- next part begins, or NULL at the end of the table, and how many rows it deleted.
-- This function is made twice: {table} cache_entries or lease_signs.
CREATE OR REPLACE FUNCTION {schema}.clean_{table}(
    p_from bigint, p_pages integer, OUT next_page bigint, OUT gone bigint
) LANGUAGE plpgsql VOLATILE {definer} AS $function$
DECLARE
    pages CONSTANT bigint := pg_relation_size('{schema}.{table}') / current_setting('block_size')::bigint;
    last CONSTANT bigint := least(p_from + p_pages, pages);
    now_ms CONSTANT bigint := {schema}.now_ms();
    lower_place CONSTANT tid := format('(%s,0)', p_from)::tid;
    upper_place CONSTANT tid := format('(%s,0)', greatest(last, 0))::tid;
BEGIN
    IF p_from >= pages THEN
        gone := 0;
        RETURN;
    END IF;
    IF current_setting('server_version_num')::integer >= 140000 THEN
        DELETE FROM {schema}.{table} WHERE ctid = ANY (ARRAY(
            SELECT ctid FROM {schema}.{table}
            WHERE ctid >= lower_place AND ctid < upper_place AND expires_at BETWEEN 0 AND now_ms
            FOR UPDATE SKIP LOCKED));
    ELSE
        -- Postgres 13 would read the whole table for a range of places. A page has at most 291 rows.
        DELETE FROM {schema}.{table} WHERE ctid = ANY (ARRAY(
            SELECT ctid FROM {schema}.{table}
            WHERE ctid = ANY (ARRAY(
                    SELECT format('(%s,%s)', page, item)::tid
                    FROM generate_series(p_from, last - 1) page, generate_series(1, 291) item))
                AND expires_at BETWEEN 0 AND now_ms
            FOR UPDATE SKIP LOCKED));
    END IF;
    GET DIAGNOSTICS gone = ROW_COUNT;
    IF last < pages THEN
        next_page := last;
    END IF;
END
$function$;
