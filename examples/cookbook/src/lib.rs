//! The blocks of code in the README and in `docs/` compile, and those that need no server run.

/// Makes a doc test of each block of a document.
macro_rules! documents {
    ($($name:ident = $path:literal;)*) => {$(
        #[cfg(doctest)]
        #[doc = include_str!($path)]
        struct $name;
    )*};
}

documents! {
    Readme = "../../../README.md";
    CachingGuide = "../../../docs/caching-guide.md";
    Configuration = "../../../docs/configuration.md";
    Consistency = "../../../docs/consistency.md";
    Cookbook = "../../../docs/cookbook.md";
    Deploys = "../../../docs/deploys.md";
    Freshness = "../../../docs/freshness.md";
    LlmAnswers = "../../../docs/llm-answers.md";
    Operations = "../../../docs/operations.md";
    PostgresGuide = "../../../docs/postgres.md";
    Questions = "../../../docs/questions.md";
    RedisGuide = "../../../docs/redis.md";
    Telemetry = "../../../docs/telemetry.md";
    WriteBehindGuide = "../../../docs/write-behind.md";
}
