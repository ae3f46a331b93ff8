-- Writes the outbox for changes of records by SQL by hand or by another program. The library's own
-- statements write the outbox themselves, and set `terrace.logs`, which the trigger checks.
CREATE OR REPLACE FUNCTION {schema}.records_changed() RETURNS trigger
LANGUAGE plpgsql {definer} AS $function$
BEGIN
    IF TG_OP = 'TRUNCATE' THEN
        INSERT INTO {schema}.outbox (namespace, tenant)
            SELECT s.namespace, s.tenant FROM {schema}.spaces s WHERE s.role = 'store';
        RETURN NULL;
    END IF;
    IF TG_OP <> 'INSERT' THEN
        INSERT INTO {schema}.outbox (namespace, tenant, key)
            SELECT s.namespace, s.tenant, OLD.key FROM {schema}.spaces s WHERE s.id = OLD.space;
    END IF;
    IF TG_OP = 'INSERT' OR (TG_OP = 'UPDATE' AND (NEW.space, NEW.key) IS DISTINCT FROM (OLD.space, OLD.key)) THEN
        INSERT INTO {schema}.outbox (namespace, tenant, key)
            SELECT s.namespace, s.tenant, NEW.key FROM {schema}.spaces s WHERE s.id = NEW.space;
    END IF;
    RETURN NULL;
END
$function$;
DROP TRIGGER IF EXISTS records_changed ON {schema}.records;
CREATE TRIGGER records_changed AFTER INSERT OR UPDATE ON {schema}.records FOR EACH ROW
    WHEN (current_setting('terrace.logs', true) IS DISTINCT FROM 'on')
    EXECUTE FUNCTION {schema}.records_changed();
-- The deletion of an expired record or of a tombstone writes nothing: that is what cleaning does.
DROP TRIGGER IF EXISTS records_deleted ON {schema}.records;
CREATE TRIGGER records_deleted AFTER DELETE ON {schema}.records FOR EACH ROW
    WHEN (OLD.state = 'V' AND (OLD.expires_at < 0 OR OLD.expires_at > {schema}.now_ms()))
    EXECUTE FUNCTION {schema}.records_changed();
DROP TRIGGER IF EXISTS records_truncated ON {schema}.records;
CREATE TRIGGER records_truncated AFTER TRUNCATE ON {schema}.records
    EXECUTE FUNCTION {schema}.records_changed();
ALTER TABLE {schema}.records ENABLE ALWAYS TRIGGER records_changed;
ALTER TABLE {schema}.records ENABLE ALWAYS TRIGGER records_deleted;
ALTER TABLE {schema}.records ENABLE ALWAYS TRIGGER records_truncated;
