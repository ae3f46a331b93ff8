//! Policies of terrace: expiry, freshness, admission, write, stampede.
