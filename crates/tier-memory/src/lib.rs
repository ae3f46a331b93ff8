//! Near tiers of terrace: Memory over moka, Quick over quick_cache.
