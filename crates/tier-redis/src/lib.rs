//! The Redis tier of terrace: fenced cache tier over one multiplexed connection.
