//! The contracts and the chain of terrace: cache, routes, flights, entries, keys, codecs, clock.
