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
    /// `$1` namespace, `$2` role: whether the namespace is used in the other role.
    pub(crate) in_other_role: SqlStr,
    /// `$1` id, `$2` epoch.
    pub(crate) clear: SqlStr,
    pub(crate) outbox: OutboxStatements,
    pub(crate) store: RoleStatements,
    pub(crate) cache: RoleStatements,
    /// `$1` namespace, then arrays: digests, keys, tokens, ttls, over, replaces.
    pub(crate) lease: WriteStatement,
    pub(crate) leases: LeaseStatements,
    pub(crate) clean: CleanStatements,
    /// `$1` group, `$2` names, `$3` what is added, `$4` the most names, `$5` the name of those beyond.
    pub(crate) add_counters: SqlStr,
    /// `$1` group: name, total.
    pub(crate) read_counters: SqlStr,
    pub(crate) fronts: FrontStatements,
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
    /// the most rows. The first row has the snapshot of this read, whether rows are missing, the table's
    /// number, and whether the server takes no writes. Each other row has namespace, tenant, key, version.
    pub(crate) read: SqlStr,
    /// The identity of this outbox (start of the server, the table's number) and its snapshot. No row on a
    /// standby.
    pub(crate) server: SqlStr,
    /// `$1` namespace, `$2` tenant, `$3` key: the number of the row, and the id of the transaction.
    pub(crate) add: SqlStr,
    /// `$1` the id of a transaction: whether it has committed.
    pub(crate) has_committed: SqlStr,
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
    pub(crate) put: WriteStatement,
    /// `$1` namespace, then arrays: digests, keys, kinds, tokens, seen, versions, tombstone ttls, four
    /// deadlines, bodies.
    pub(crate) apply: WriteStatement,
}

/// A statement that changes the cells of one key or many.
pub(crate) struct WriteStatement {
    one: SqlStr,
    /// It has one argument more: how long it waits for a lock.
    many: SqlStr,
}

impl WriteStatement {
    /// The call of `function` of the schema with so many `arguments`.
    fn new(function: &str, columns: &str, arguments: usize, sql: &impl Fn(String) -> SqlStr) -> Self {
        let rest: String = (2..=arguments).map(|number| format!(", ${number}")).collect();
        let call = |first: &str| sql(format!("SELECT {columns} FROM {{schema}}.{function}({first}{rest})"));
        // The first argument is made before the function begins, and the setting ends with the statement.
        let wait = arguments + 1;
        let bounded =
            format!("(SELECT $1::integer FROM pg_catalog.set_config('lock_timeout', ${wait}, true))");
        Self { one: call("$1"), many: call(&bounded) }
    }

    /// The form for one key, or for many.
    pub(crate) fn of(&self, many: bool) -> &SqlStr {
        if many { &self.many } else { &self.one }
    }
}

/// The statements of write-behind.
pub(crate) struct FrontStatements {
    /// `$1` namespace, `$2` id, `$3` nonce, `$4` known nonces, `$5` whether it was opened before, `$6` hold in ms,
    /// `$7` whether it takes over: why it was refused, term, highest version.
    pub(crate) open: SqlStr,
    /// `$1` namespace, `$2` term, `$3` hold in ms or NULL for its end: whether the term is the last one.
    pub(crate) hold: SqlStr,
    /// `$1` namespace, `$2` term, then arrays: digests, keys, versions, tombstone ttls, four deadlines, bodies.
    pub(crate) behind: WriteStatement,
}

/// The statements that keep the tables small.
pub(crate) struct CleanStatements {
    /// `$1` seconds: whether this process is to clean, since no other one began within that time.
    pub(crate) turn: SqlStr,
    /// `$1` first page, `$2` pages: the page where the next part begins, NULL at the end; deleted rows.
    pub(crate) copies: SqlStr,
    /// As `copies`, for the keep-alives of leases.
    pub(crate) keep_alives: SqlStr,
    /// `$1` the first deadline, `$2` the most rows: the last deadline, NULL at the end; deleted rows.
    pub(crate) records: SqlStr,
    /// The namespaces that were cleared: id, epoch.
    pub(crate) cleared: SqlStr,
    /// `$1` namespace, `$2` epoch, `$3` the digest before the page, `$4` the most rows: deletes the entries of
    /// other epochs, and gives the page's last digest. No row if the page is empty or the epoch changed.
    pub(crate) sweep: SqlStr,
    /// `$1` namespace, `$2` epoch: clears the flag `sweep`, unless the epoch changed.
    pub(crate) end_sweep: SqlStr,
    /// Whether this role may VACUUM the table of copies.
    pub(crate) may_vacuum: SqlStr,
    pub(crate) vacuum: SqlStr,
}

/// The answer to a lease.
const LEASED: &str =
    "version, state, written, fresh_until, stale_until, expires_at, body, ord, token, next_version";

/// A cell and the server's clock. Deadlines equal to `expires_at` are NULL, and so is the clock if the cell
/// never expires, as most records: each column that travels is a fortieth of the server's work.
pub(super) const CELL: &str = "version, state, written, NULLIF(fresh_until, expires_at), \
    NULLIF(stale_until, expires_at), expires_at, body, \
    CASE WHEN expires_at >= 0 THEN clock_timestamp() END";

impl Statements {
    /// The statements on `schema`, a quoted name. With `direct`, reads name the tables, which needs the right
    /// to SELECT from them; without it they call the functions of the schema.
    pub(crate) fn new(schema: &str, direct: bool) -> Self {
        let sql =
            |text: String| AssertSqlSafe(Arc::<str>::from(text.replace("{schema}", schema))).into_sql_str();
        let fixed = |text: &str| sql(text.to_owned());
        Self {
            find_namespace: fixed(
                "SELECT id, level, value_schema, value_shape FROM {schema}.space_find($1, $2, $3)",
            ),
            insert_namespace: fixed("SELECT {schema}.space_add($1, $2, $3, $4, $5, $6, $7)"),
            set_options: fixed("SELECT {schema}.space_set_options($1, $2, $3, $4)"),
            in_other_role: fixed("SELECT {schema}.space_in_other_role($1, $2)"),
            clear: fixed("SELECT {schema}.space_clear($1, $2)"),
            outbox: OutboxStatements {
                read: if direct {
                    sql(read_outbox(["$1::pg_snapshot", "$2", "$3", "$4"]))
                } else {
                    fixed(
                        "SELECT id, snapshot, gap, namespace, tenant, key, version, read_only \
                         FROM {schema}.outbox_read($1::pg_snapshot, $2, $3, $4)",
                    )
                },
                server: fixed(SERVER),
                add: fixed("SELECT {schema}.outbox_add_change($1, $2, $3), pg_current_xact_id()::text"),
                has_committed: fixed("SELECT pg_xact_status($1::text::xid8) = 'committed'"),
                trim: fixed("SELECT {schema}.trim_outbox($1)"),
            },
            add_counters: fixed("SELECT {schema}.counters_add($1, $2, $3, $4, $5)"),
            read_counters: fixed("SELECT name, total FROM {schema}.counters_read($1)"),
            store: Self::of_role("store", "records", "", direct, &sql),
            cache: Self::of_role("cache", "cache_entries", CURRENT_EPOCH, direct, &sql),
            lease: WriteStatement::new("cache_lease", LEASED, 7, &sql),
            leases: LeaseStatements {
                status: fixed("SELECT status FROM {schema}.lease_status($1, $2, $3)"),
                keep_alive: fixed("SELECT {schema}.lease_sign($1, $2, $3)"),
            },
            fronts: FrontStatements {
                open: fixed(
                    "SELECT refused, term, high FROM {schema}.front_open($1, $2, $3, $4, $5, $6, $7)",
                ),
                hold: fixed("SELECT {schema}.front_hold($1, $2, $3)"),
                behind: WriteStatement::new(
                    "store_behind",
                    "version, hit, written, fresh_until, stale_until, expires_at, body, \
                     ord, applied, existed, decided, too_old",
                    11,
                    &sql,
                ),
            },
            clean: CleanStatements {
                turn: fixed("SELECT {schema}.clean_turn($1)"),
                copies: fixed("SELECT next_page, gone FROM {schema}.clean_cache_entries($1, $2)"),
                keep_alives: fixed("SELECT next_page, gone FROM {schema}.clean_lease_signs($1, $2)"),
                records: fixed("SELECT last_deadline, gone FROM {schema}.clean_records($1, $2)"),
                cleared: fixed("SELECT id, epoch FROM {schema}.cleared_spaces()"),
                sweep: fixed("SELECT digest FROM {schema}.clean_cleared($1, $2, $3, $4)"),
                end_sweep: fixed("SELECT {schema}.end_clean_cleared($1, $2)"),
                may_vacuum: fixed(
                    "SELECT pg_has_role(relowner, 'USAGE') FROM pg_class \
                     WHERE oid = '{schema}.cache_entries'::regclass",
                ),
                vacuum: fixed("VACUUM (SKIP_LOCKED, TRUNCATE false) {schema}.cache_entries"),
            },
        }
    }

    fn of_role(
        role: &str,
        table: &str,
        and: &str,
        direct: bool,
        sql: &impl Fn(String) -> SqlStr,
    ) -> RoleStatements {
        let direct_get = |filter: &str, more: &str| {
            let and = and.replace("{space}", "$1");
            format!("SELECT {CELL}{more} FROM {{schema}}.{table} WHERE space = $1 AND {filter} {and}")
        };
        let call = |digests: &str| {
            format!(
                "SELECT version, state, written, fresh_until, stale_until, expires_at, body, clock, digest \
                 FROM {{schema}}.{role}_get($1, {digests})"
            )
        };
        RoleStatements {
            get: sql(if direct { direct_get("digest = $2", "") } else { call("ARRAY[$2::bytea]") }),
            get_many: sql(if direct { direct_get("digest = ANY($2)", ", digest") } else { call("$2") }),
            put: WriteStatement::new(&format!("{role}_put"), "digest, version", 9, sql),
            apply: WriteStatement::new(
                &format!("{role}_apply"),
                "version, hit, written, fresh_until, stale_until, expires_at, body, \
                 ord, applied, existed, decided",
                13,
                sql,
            ),
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

/// A copy of another epoch than the namespace's is dead.
pub(super) const CURRENT_EPOCH: &str =
    "AND epoch = (SELECT s.epoch FROM {schema}.spaces s WHERE s.id = {space})";

/// The rows that became visible since a snapshot: the rows of transactions that began after it, and of
/// transactions that it saw running. Both halves are one statement, so they see one moment. Rows of
/// transactions that this server has not reached yet came with the dump of another server.
///
/// The arguments are the snapshot, the namespaces, whether to read changes of copies, and the most rows.
pub(super) fn read_outbox([seen, namespaces, copies, most]: [&str; 4]) -> String {
    format!(
        "SELECT NULL::bigint AS id, pg_current_snapshot()::text AS snapshot, \
             {{schema}}.outbox_has_gap({seen}) AS gap, \
             NULL::text AS namespace, NULL::text AS tenant, NULL::bytea AS key, \
             '{{schema}}.outbox'::regclass::oid::bigint AS version, \
             current_setting('transaction_read_only') = 'on' AS read_only \
         UNION ALL \
         (SELECT o.id, NULL, NULL, o.namespace, o.tenant, o.key, o.version, NULL FROM {{schema}}.outbox o \
         WHERE (o.xid >= pg_snapshot_xmax({seen}) AND o.xid < pg_snapshot_xmax(pg_current_snapshot()) \
             OR o.xid = ANY (ARRAY(SELECT pg_snapshot_xip({seen})))) \
             AND o.namespace = ANY ({namespaces}) AND ({copies} OR NOT o.of_copies) \
         LIMIT {most}) \
         ORDER BY id NULLS FIRST"
    )
}

/// The start of the server differs after each restart and failover, and needs no right to ask for. (The
/// timeline and the system's number do, and some managed servers have neither.)
const SERVER: &str = "SELECT extract(epoch FROM pg_postmaster_start_time())::text, \
         '{schema}.outbox'::regclass::oid::bigint, pg_current_snapshot()::text \
     WHERE NOT pg_is_in_recovery()";
