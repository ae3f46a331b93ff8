-- The server's clock at the moment of the call, in microseconds since 1970.
CREATE OR REPLACE FUNCTION {schema}.micros() RETURNS bigint LANGUAGE sql VOLATILE
    AS $function$ SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint $function$;

-- The server's clock at the moment of the call, in whole milliseconds since 1970.
CREATE OR REPLACE FUNCTION {schema}.now_ms() RETURNS bigint LANGUAGE sql VOLATILE
    AS $function$ SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint / 1000 $function$;

-- A record must survive a crash once its write is acknowledged, whatever the defaults of the server, the
-- database or the role are. A cached copy need not: a crash empties its table.
CREATE OR REPLACE FUNCTION {schema}.durable(is_record boolean) RETURNS void LANGUAGE plpgsql VOLATILE AS $function$
BEGIN
    IF is_record AND current_setting('synchronous_commit') = 'off' THEN
        PERFORM set_config('synchronous_commit', 'on', true);
    END IF;
END
$function$;
