//! Private redis-server and postgres for tests, on free ports; a TCP fault proxy.
