-- Watches a table of the application: triggers write the keys of its changed rows to the outbox.

-- Watches a table. From now on each change of it, by any client, invalidates the keys in `of_namespace`
-- of its old and new rows. One key column is the key, and several are a tuple. A row with a NULL in one
-- of them has no key. A statement that changes more than 1,000 rows clears the namespace, and so does
-- TRUNCATE. A second call replaces the watch: call it after you add a partition or rename a key column.
--
-- `tenant_column` names the tenant of the key, for caches that are built per tenant.
CREATE OR REPLACE FUNCTION {schema}.watch(
    watched regclass, of_namespace text, key_columns text[], tenant_column text DEFAULT NULL
) RETURNS void LANGUAGE plpgsql SET client_min_messages = 'warning' AS $function$
DECLARE
    watch_id integer;
    event record;
    relation regclass;
    name text;
BEGIN
    IF coalesce(cardinality(key_columns), 0) = 0 OR coalesce(of_namespace, '') = '' THEN
        RAISE EXCEPTION 'a watch needs a namespace and key columns' USING ERRCODE = 'invalid_parameter_value';
    END IF;
    -- A crash would change an unlogged table, and no trigger would fire.
    IF NOT EXISTS (
        SELECT FROM pg_class c WHERE c.oid = watched AND c.relkind IN ('r', 'p') AND c.relpersistence = 'p'
    ) THEN
        RAISE EXCEPTION '% cannot be watched: it is a view, or a foreign, temporary or unlogged table', watched
            USING ERRCODE = 'wrong_object_type';
    END IF;
    -- The rows of a foreign table are in no transition table, so statements that reach them would fail.
    IF EXISTS (
        SELECT FROM {schema}.watched_tree(watched) t JOIN pg_class c ON c.oid = t WHERE c.relkind = 'f'
    ) THEN
        RAISE EXCEPTION '% cannot be watched: part of it is a foreign table', watched
            USING ERRCODE = 'wrong_object_type';
    END IF;
    PERFORM {schema}.unwatch(w.relation, w.namespace) FROM {schema}.watches w
        WHERE (w.relation = watched AND w.namespace = of_namespace)
            OR NOT EXISTS (SELECT FROM pg_class c WHERE c.oid = w.relation);
    INSERT INTO {schema}.watches (relation, namespace, keyed_by, tenant_in)
        VALUES (watched, of_namespace, key_columns, tenant_column) RETURNING id INTO watch_id;

    FOR event IN SELECT * FROM (VALUES
        ('insert', 'REFERENCING NEW TABLE AS new_rows', '{new_rows}'::text[]),
        ('update', 'REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows', '{old_rows,new_rows}'),
        ('delete', 'REFERENCING OLD TABLE AS old_rows', '{old_rows}'),
        ('truncate', '', '{}')) AS v(verb, referencing, changed)
    LOOP
        name := format('watch_%s_%s', watch_id, event.verb);
        EXECUTE format(
            'CREATE FUNCTION {schema}.%I() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER '
            'SET search_path = pg_catalog, pg_temp AS %L',
            name, {schema}.watch_body(watched, of_namespace, key_columns, tenant_column, event.changed));
        -- A statement fires only the triggers of the table that it names, which may be a partition.
        FOR relation IN SELECT {schema}.watched_tree(watched) LOOP
            EXECUTE format(
                'CREATE TRIGGER %I AFTER %s ON %s %s FOR EACH STATEMENT EXECUTE FUNCTION {schema}.%I()',
                'terrace_' || name, event.verb, relation, event.referencing, name);
            EXECUTE format('ALTER TABLE ONLY %s ENABLE ALWAYS TRIGGER %I', relation, 'terrace_' || name);
        END LOOP;
    END LOOP;
    -- Clears the copies that were cached before the table was watched.
    INSERT INTO {schema}.outbox (namespace) VALUES (of_namespace);
END
$function$;

-- A table, its partitions, and the tables that inherit from it, at all levels.
CREATE OR REPLACE FUNCTION {schema}.watched_tree(watched regclass) RETURNS SETOF regclass LANGUAGE sql STABLE AS $function$
    WITH RECURSIVE tree(part) AS (
        SELECT watched::oid UNION SELECT i.inhrelid FROM pg_inherits i JOIN tree ON i.inhparent = part
    ) SELECT part::regclass FROM tree
$function$;

CREATE OR REPLACE FUNCTION {schema}.unwatch(watched regclass, of_namespace text) RETURNS void
LANGUAGE plpgsql SET client_min_messages = 'warning' AS $function$
DECLARE
    watch_id integer;
    verb text;
BEGIN
    DELETE FROM {schema}.watches w WHERE w.relation = watched AND w.namespace = of_namespace
        RETURNING w.id INTO watch_id;
    IF watch_id IS NOT NULL THEN
        FOREACH verb IN ARRAY '{insert,update,delete,truncate}'::text[] LOOP
            -- CASCADE drops its triggers too, on all partitions.
            EXECUTE format('DROP FUNCTION IF EXISTS {schema}.%I() CASCADE', format('watch_%s_%s', watch_id, verb));
        END LOOP;
    END IF;
END
$function$;

-- The body of the trigger function of a watch. `changed` names the transition tables of its event.
CREATE OR REPLACE FUNCTION {schema}.watch_body(
    watched regclass, of_namespace text, key_columns text[], tenant_column text, changed text[]
) RETURNS text LANGUAGE plpgsql STABLE AS $function$
DECLARE
    clear text := format('INSERT INTO {schema}.outbox (namespace) VALUES (%L);', of_namespace);
    parts text;
    present text;
    rows_of text;
    tenant text := quote_literal('');
BEGIN
    SELECT string_agg({schema}.watched_part(watched, c.name), ', ' ORDER BY c.ord),
            string_agg(format('r.%I IS NOT NULL', c.name), ' AND ')
        INTO parts, present FROM unnest(key_columns) WITH ORDINALITY AS c(name, ord);
    IF tenant_column IS NOT NULL THEN
        PERFORM {schema}.watched_part(watched, tenant_column);
        tenant := format('{schema}.tenant_name(r.%I::text)', tenant_column);
    END IF;
    IF cardinality(changed) = 0 THEN
        RETURN format('BEGIN %s RETURN NULL; END', clear);
    END IF;
    -- The columns are not named here: new, found and other names are also variables of PL/pgSQL.
    SELECT string_agg(format('SELECT * FROM %I', c.name), ' UNION ALL ')
        INTO rows_of FROM unnest(changed) AS c(name);
    RETURN format($body$
BEGIN
    IF (SELECT count(*) FROM (SELECT FROM %I LIMIT 1001) r) > 1000 THEN
        %s
    ELSE
        INSERT INTO {schema}.outbox (namespace, tenant, key)
        SELECT DISTINCT %L, %s, k.key FROM (%s) r, LATERAL (SELECT {schema}.shared_key({schema}.key(%s))) AS k(key)
        WHERE %s;
    END IF;
    RETURN NULL;
END$body$, changed[1], clear, of_namespace, tenant, rows_of, parts, present);
END
$function$;

-- The SQL that makes a part of the key from the column `column_name` of a changed row `r`. It refuses a
-- column whose bytes or equality differ from those of a cache's key.
CREATE OR REPLACE FUNCTION {schema}.watched_part(watched regclass, column_name text) RETURNS text
LANGUAGE plpgsql STABLE AS $function$
DECLARE
    type oid;
    deterministic boolean;
    taken_as text;
BEGIN
    SELECT a.atttypid, c.collisdeterministic INTO type, deterministic
        FROM pg_attribute a LEFT JOIN pg_collation c ON c.oid = a.attcollation
        WHERE a.attrelid = watched AND a.attname = column_name AND a.attnum > 0 AND NOT a.attisdropped;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'table % has no column %', watched, column_name USING ERRCODE = 'undefined_column';
    END IF;
    WHILE (SELECT t.typtype = 'd' FROM pg_type t WHERE t.oid = type) LOOP
        SELECT t.typbasetype INTO type FROM pg_type t WHERE t.oid = type;
    END LOOP;
    taken_as := CASE
        WHEN type IN ('int2'::regtype, 'int4'::regtype, 'int8'::regtype) THEN 'bigint'
        WHEN type IN ('text'::regtype, 'varchar'::regtype) AND deterministic THEN 'text'
        WHEN type IN ('uuid'::regtype, 'bytea'::regtype, 'bool'::regtype) THEN type::regtype::text
    END;
    IF taken_as IS NULL THEN
        RAISE EXCEPTION 'column % of % cannot be part of a key: its type, %, or its collation has other bytes or another equality than a cache''s key',
            column_name, watched, type::regtype
            USING ERRCODE = 'datatype_mismatch',
                HINT = 'smallint, integer, bigint, text, varchar, uuid, bytea and boolean can be watched';
    END IF;
    RETURN format('{schema}.key(r.%I::%s)', column_name, taken_as);
END
$function$;
