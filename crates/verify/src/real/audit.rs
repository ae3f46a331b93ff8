//! The truth, as Postgres itself records it: a trigger of the driver writes every change down, in the
//! transaction that makes the change.

use sqlx::{Connection, Executor, PgConnection, Row};
use terrace::{BoxError, Cache, Postgres};
use terrace_simulation::{
    history::{At, From, Read},
    value_of,
};

use super::{
    plan::Plan,
    record::{Line, now, wall_now},
};

/// Numbers of an identity column grow in the order of the changes of a row: both are under its lock.
const TABLE: &str = "
CREATE TABLE audit (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    key bigint NOT NULL, value bigint, body bytea, version bigint NOT NULL,
    by text NOT NULL DEFAULT current_setting('application_name'),
    at timestamptz NOT NULL DEFAULT clock_timestamp()
)";

const OF_RECORDS: &str = "
CREATE FUNCTION audit_records() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    IF TG_OP = 'INSERT' OR NEW.version <> OLD.version THEN
        INSERT INTO public.audit (key, body, version) VALUES (
            ('x' || encode(NEW.key, 'hex'))::bit(64)::bigint,
            CASE WHEN NEW.state = 'V' THEN NEW.body END, NEW.version);
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER audit AFTER INSERT OR UPDATE ON terrace.records
    FOR EACH ROW EXECUTE FUNCTION audit_records()";

const OF_A_TABLE: &str = "
CREATE TABLE origin (id bigint PRIMARY KEY, value bigint NOT NULL);
CREATE FUNCTION audit_origin() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    INSERT INTO public.audit (key, value, version) VALUES (NEW.id, NEW.value, 0);
    RETURN NULL;
END $$;
CREATE TRIGGER audit AFTER INSERT OR UPDATE ON origin FOR EACH ROW EXECUTE FUNCTION audit_origin();
SELECT terrace.watch('origin', 'verify', '{id}')";

/// Makes the library's schema, the table where there is one, and the audit.
pub(crate) async fn prepare(database: &str, plan: &Plan) -> Result<(), BoxError> {
    let postgres = Postgres::new(database)?;
    let cache = Cache::<i64, u64>::builder("prepares").store(postgres).build()?;
    cache.ready().await?;
    let mut session = PgConnection::connect(database).await?;
    session.execute(TABLE).await?;
    if plan.stack.has_store() {
        sqlx::raw_sql(OF_RECORDS).execute(&mut session).await?;
        return Ok(());
    }
    sqlx::raw_sql(OF_A_TABLE).execute(&mut session).await?;
    let rows = sqlx::query("INSERT INTO origin SELECT n, n + 1 FROM generate_series(0, $1) n");
    rows.bind(plan.keys as i64 - 1).execute(&mut session).await?;
    Ok(())
}

/// How far the clock of Postgres is ahead of the common one.
pub(crate) fn ahead() -> u64 {
    wall_now().0.saturating_sub(now().0)
}

/// All changes, and the last state. `ahead` is the largest difference between the clocks.
pub(crate) async fn tell(database: &str, plan: &Plan, ahead: u64) -> Result<Vec<Line>, BoxError> {
    let mut session = PgConnection::connect(database).await?;
    let changes = "SELECT key, value, body, version, by, (extract(epoch FROM at) * 1000000)::bigint
                   FROM audit ORDER BY id";
    let mut lines = Vec::new();
    for row in session.fetch_all(changes).await? {
        let micros: i64 = row.try_get(5)?;
        let value = match row.try_get::<Option<Vec<u8>>, _>(2)? {
            Some(body) => value_of(&body),
            None => row.try_get::<Option<i64>, _>(1)?.map(|value| value as u64),
        };
        let by: String = row.try_get(4)?;
        lines.push(Line::Changed {
            key: row.try_get::<i64, _>(0)? as u64,
            since: At((micros as u64 * 1_000).saturating_sub(ahead)),
            value,
            version: row.try_get::<i64, _>(3)? as u64,
            by: by.parse().unwrap_or(0),
        });
    }
    lines.push(Line::Told { at: now() });
    if plan.stack.has_store() {
        let call = now();
        let records = "SELECT ('x' || encode(key, 'hex'))::bit(64)::bigint,
                       CASE WHEN state = 'V' THEN body END FROM terrace.records";
        for row in session.fetch_all(records).await? {
            let (key, body): (i64, Option<Vec<u8>>) = (row.try_get(0)?, row.try_get(1)?);
            let (value, ret) = (body.as_deref().and_then(value_of), now());
            let read = Read::plain(0, key as u64, (call, ret), value, From::Store);
            lines.push(Line::Final(Read { anew: true, ..read }));
        }
    }
    Ok(lines)
}
