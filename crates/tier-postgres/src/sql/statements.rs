//! Every statement that the tier sends, built once with the name of its schema.

use std::sync::Arc;

use sqlx::{AssertSqlSafe, SqlSafeStr, SqlStr};
use terrace_tier::Role;

/// The statements of one schema.
pub(crate) struct Statements {
    /// `$1` namespace, `$2` tenant, `$3` role: id, level, value_schema, value_shape.
    pub(crate) find_namespace: SqlStr,
    /// `$1` namespace, `$2` tenant, `$3` role, `$4` epoch, `$5` level, `$6` schema, `$7` shape.
    pub(crate) insert_namespace: SqlStr,
    /// `$1` id, `$2` level, `$3` schema, `$4` shape.
    pub(crate) set_options: SqlStr,
    /// `$1` namespace, `$2` role: the id of a row that uses the namespace in the other role.
    pub(crate) other_role: SqlStr,
    /// `$1` id, `$2` epoch.
    pub(crate) clear: SqlStr,
    pub(crate) outbox: OutboxStatements,
    pub(crate) store: RoleStatements,
    pub(crate) cache: RoleStatements,
    /// `$1` namespace, then arrays: digests, keys, tokens, ttls, over, replaces.
    pub(crate) lease: SqlStr,
    pub(crate) leases: LeaseStatements,
    pub(crate) clean: CleanStatements,
}

/// The statements for leases that a process holds or waits for.
#[derive(Clone)]
pub(crate) struct LeaseStatements {
    /// Arrays `$1` namespaces, `$2` digests, `$3` tokens: the letter of each status, in order.
    pub(crate) status: SqlStr,
    /// `$1` sorted tokens, `$2` lifetime of the row, `$3` whether the leases are released.
    pub(crate) keep_alive: SqlStr,
}

/// The statements on the outbox.
pub(crate) struct OutboxStatements {
    /// `$1` snapshot of the last read, `$2` namespaces, `$3` whether to read changes of copies too, `$4`
    /// the most rows. The first row has the snapshot of this read, whether rows are missing, and last
    /// the table's number. Each other row has namespace, tenant, key, version.
    pub(crate) read: SqlStr,
    /// The identity of this outbox (system identifier, timeline, start of the server, the table's
    /// number) and its snapshot. No row on a standby.
    pub(crate) server: SqlStr,
    /// `$1` namespace, `$2` tenant, `$3` key.
    pub(crate) add: SqlStr,
    /// `$1` the most rows: the number of deleted rows.
    pub(crate) trim: SqlStr,
}

/// The statements on the table of one role.
pub(crate) struct RoleStatements {
    /// `$1` namespace, `$2` digest: a [`CELL`], which may have expired.
    pub(crate) get: SqlStr,
    /// `$1` namespace, `$2` digests: the same rows, with the digest as the last column.
    pub(crate) get_many: SqlStr,
    /// `$1` namespace, then arrays: digests, keys, versions, four deadlines, bodies.
    pub(crate) put: SqlStr,
    /// `$1` namespace, then arrays: digests, keys, kinds, tokens, seen, versions, tombstone ttls, four
    /// deadlines, bodies.
    pub(crate) apply: SqlStr,
}

/// The statements that keep the tables small.
pub(crate) struct CleanStatements {
    /// `$1` the most rows: deletes expired copies.
    pub(crate) copies: SqlStr,
    /// `$1` the most rows: deletes expired keep-alives of leases.
    pub(crate) keep_alives: SqlStr,
    /// `$1` the most rows: deletes expired tombstones and records.
    pub(crate) records: SqlStr,
    /// The namespaces that were cleared: id, epoch.
    pub(crate) cleared: SqlStr,
    /// `$1` namespace, `$2` epoch, `$3` the digest before the page, `$4` the most rows: deletes the entries of
    /// other epochs, and gives the page's last digest. No row if the page is empty or the epoch changed.
    pub(crate) sweep: SqlStr,
    /// `$1` namespace, `$2` epoch: clears the flag `sweep`, unless the epoch changed.
    pub(crate) end_sweep: SqlStr,
}

/// The row of an expired record is kept for so long: a load that began before the record was written must
/// find the version that it lost to.
const EXPIRED_RECORD_KEPT_MS: i64 = 3_600_000;

/// A cell and the server's clock. Deadlines equal to `expires_at` are NULL, and so is the clock if the cell
/// never expires, as most records: each column that travels is a fortieth of the server's work.
const CELL: &str = "version, state, written, NULLIF(fresh_until, expires_at), \
    NULLIF(stale_until, expires_at), expires_at, body, \
    CASE WHEN expires_at >= 0 THEN clock_timestamp() END";

impl Statements {
    /// The statements on `schema`, a quoted name.
    pub(crate) fn new(schema: &str) -> Self {
        let sql =
            |text: String| AssertSqlSafe(Arc::<str>::from(text.replace("{schema}", schema))).into_sql_str();
        let fixed = |text: &str| sql(text.to_owned());
        Self {
            find_namespace: fixed(
                "SELECT id, level, value_schema, value_shape FROM {schema}.spaces \
                 WHERE namespace = $1 AND tenant = $2 AND role = $3",
            ),
            insert_namespace: fixed(
                // If the other role uses the namespace, this row gets no level: the check of its options
                // then refuses this role and not the earlier one.
                "INSERT INTO {schema}.spaces (namespace, tenant, role, epoch, level, value_schema, value_shape) \
                 SELECT $1, $2, $3, $4, CASE WHEN taken THEN NULL ELSE $5 END, $6, $7 FROM ( \
                     SELECT EXISTS (SELECT FROM {schema}.spaces \
                         WHERE namespace = $1 AND role <> $3 AND level IS NOT NULL) AS taken) o \
                 ON CONFLICT (namespace, tenant, role) DO NOTHING",
            ),
            set_options: fixed(
                "UPDATE {schema}.spaces SET level = $2, value_schema = $3, value_shape = $4 WHERE id = $1",
            ),
            other_role: fixed(
                "SELECT id FROM {schema}.spaces WHERE namespace = $1 AND role <> $2 AND level IS NOT NULL LIMIT 1",
            ),
            clear: fixed(
                // Without a tenant it clears all tenants, sorted, so that two clears cannot deadlock.
                "WITH own AS (SELECT namespace, tenant, role FROM {schema}.spaces WHERE id = $1), \
                 meant AS MATERIALIZED ( \
                     SELECT s.id FROM {schema}.spaces s JOIN own USING (namespace, role) \
                     WHERE own.tenant IN ('', s.tenant) ORDER BY s.id FOR UPDATE OF s \
                 ), cleared AS ( \
                     UPDATE {schema}.spaces s SET epoch = $2, sweep = true FROM meant WHERE s.id = meant.id \
                 ) INSERT INTO {schema}.outbox (namespace, tenant, of_copies) \
                 SELECT namespace, tenant, true FROM own",
            ),
            outbox: OutboxStatements {
                read: fixed(READ_OUTBOX),
                server: fixed(SERVER),
                add: fixed("INSERT INTO {schema}.outbox (namespace, tenant, key) VALUES ($1, $2, $3)"),
                trim: fixed("SELECT {schema}.trim_outbox($1)"),
            },
            store: RoleStatements {
                get: sql(store_get("digest = $2", "")),
                get_many: sql(store_get("digest = ANY($2)", ", digest")),
                put: fixed(&put("store")),
                apply: fixed(&apply("store")),
            },
            cache: RoleStatements {
                get: sql(cache_get("digest = $2", "")),
                get_many: sql(cache_get("digest = ANY($2)", ", digest")),
                put: fixed(&put("cache")),
                apply: fixed(&apply("cache")),
            },
            lease: fixed(
                "SELECT version, state, written, fresh_until, stale_until, expires_at, body, \
                 ord, token, next_version FROM {schema}.cache_lease($1, $2, $3, $4, $5, $6, $7)",
            ),
            leases: LeaseStatements { status: fixed(LEASE_STATUS), keep_alive: fixed(KEEP_ALIVE) },
            clean: CleanStatements {
                copies: fixed(&delete_expired("cache_entries", "")),
                keep_alives: fixed(&delete_expired("lease_signs", "")),
                records: fixed(&delete_expired(
                    "records",
                    &format!(
                        "AND (state <> 'V' OR expires_at <= {{schema}}.now_ms() - {EXPIRED_RECORD_KEPT_MS})"
                    ),
                )),
                cleared: fixed("SELECT id, epoch FROM {schema}.spaces WHERE sweep"),
                sweep: fixed(SWEEP),
                end_sweep: fixed("UPDATE {schema}.spaces SET sweep = false WHERE id = $1 AND epoch = $2"),
            },
        }
    }

    /// The statements on the table of `role`.
    pub(crate) fn of(&self, role: Role) -> &RoleStatements {
        match role {
            Role::Cache => &self.cache,
            Role::Store => &self.store,
        }
    }
}

/// The rows have the server's clock, and the process that reads them drops the expired ones: a comparison
/// here would cost each read a tenth of its statement.
fn store_get(filter: &str, more: &str) -> String {
    format!("SELECT {CELL}{more} FROM {{schema}}.records WHERE space = $1 AND {filter}")
}

/// Reads only cells of the current epoch.
fn cache_get(filter: &str, more: &str) -> String {
    format!(
        "SELECT {CELL}{more} FROM {{schema}}.cache_entries WHERE space = $1 AND {filter} \
         AND epoch = (SELECT epoch FROM {{schema}}.spaces WHERE id = $1)"
    )
}

fn put(role: &str) -> String {
    format!("SELECT digest, version FROM {{schema}}.{role}_put($1, $2, $3, $4, $5, $6, $7, $8, $9)")
}

fn apply(role: &str) -> String {
    format!(
        "SELECT version, hit, written, fresh_until, stale_until, expires_at, body, \
         ord, applied, existed, decided \
         FROM {{schema}}.{role}_apply($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)"
    )
}

/// Skips locked rows, which are in use: cleaning never waits, and the next round deletes them.
fn delete_expired(table: &str, and: &str) -> String {
    format!(
        "DELETE FROM {{schema}}.{table} WHERE ctid = ANY (ARRAY( \
         SELECT ctid FROM {{schema}}.{table} \
         WHERE expires_at >= 0 AND expires_at <= (SELECT {{schema}}.now_ms()) {and} \
         ORDER BY expires_at LIMIT $1 FOR UPDATE SKIP LOCKED))"
    )
}

/// The lock on the row of `spaces` makes the next clear wait for the end of the page, so that entries of
/// another epoch are older ones. After that clear there is no row to lock, and no page.
const SWEEP: &str = "WITH space AS MATERIALIZED ( \
         SELECT id, epoch FROM {schema}.spaces WHERE id = $1 AND epoch = $2 FOR SHARE \
     ), page AS MATERIALIZED ( \
         SELECT digest FROM {schema}.cache_entries \
         WHERE space = (SELECT id FROM space) AND digest > $3 ORDER BY digest LIMIT $4 \
     ), dead AS MATERIALIZED ( \
         SELECT e.ctid AS place FROM page p \
         JOIN {schema}.cache_entries e ON e.space = $1 AND e.digest = p.digest \
         WHERE e.epoch <> $2 FOR UPDATE OF e SKIP LOCKED \
     ), gone AS ( \
         DELETE FROM {schema}.cache_entries e WHERE e.ctid = ANY (ARRAY(SELECT place FROM dead)) \
     ) SELECT digest FROM page ORDER BY digest DESC LIMIT 1";

/// The rows that became visible since a snapshot: the rows of transactions that began after it, and of
/// transactions that it saw running. Both halves are one statement, so they see one moment. Rows of
/// transactions that this server has not reached yet came with the dump of another server.
const READ_OUTBOX: &str = "SELECT NULL::bigint AS id, pg_current_snapshot()::text AS snapshot, \
         {schema}.outbox_has_gap($1::pg_snapshot) AS gap, \
         NULL::text AS namespace, NULL::text AS tenant, NULL::bytea AS key, \
         '{schema}.outbox'::regclass::oid::bigint AS version \
     UNION ALL \
     (SELECT id, NULL, NULL, namespace, tenant, key, version FROM {schema}.outbox \
     WHERE (xid >= pg_snapshot_xmax($1::pg_snapshot) AND xid < pg_snapshot_xmax(pg_current_snapshot()) \
         OR xid = ANY (ARRAY(SELECT pg_snapshot_xip($1::pg_snapshot)))) \
         AND namespace = ANY ($2) AND ($3 OR NOT of_copies) \
     LIMIT $4) \
     ORDER BY id NULLS FIRST";

const SERVER: &str = "SELECT (pg_control_system()).system_identifier, \
         left(pg_walfile_name(pg_current_wal_lsn()), 8), \
         extract(epoch FROM pg_postmaster_start_time())::text, '{schema}.outbox'::regclass::oid::bigint, \
         pg_current_snapshot()::text \
     WHERE NOT pg_is_in_recovery()";

const LEASE_STATUS: &str = "SELECT CASE \
         WHEN e.token IS DISTINCT FROM u.token OR e.epoch IS DISTINCT FROM s.epoch \
             OR e.expires_at BETWEEN 0 AND c.now_ms THEN 'C' \
         WHEN l.given_back THEN 'F' WHEN l.token IS NOT NULL THEN 'A' ELSE 'S' END::\"char\" \
     FROM unnest($1::integer[], $2::bytea[], $3::bigint[]) WITH ORDINALITY AS u(space, digest, token, ord) \
     CROSS JOIN (SELECT {schema}.now_ms()) AS c(now_ms) \
     LEFT JOIN {schema}.cache_entries e ON e.space = u.space AND e.digest = u.digest \
     LEFT JOIN {schema}.spaces s ON s.id = u.space \
     LEFT JOIN {schema}.lease_signs l ON l.token = u.token AND l.expires_at > c.now_ms \
     ORDER BY u.ord";

/// A keep-alive that arrives after its lease was released must not hide the release.
const KEEP_ALIVE: &str = "INSERT INTO {schema}.lease_signs AS l (token, given_back, expires_at) \
     SELECT u.token, $3, {schema}.now_ms() + $2 FROM unnest($1::bigint[]) AS u(token) \
     ON CONFLICT (token) DO UPDATE SET given_back = excluded.given_back, expires_at = excluded.expires_at \
     WHERE NOT l.given_back OR excluded.given_back";
