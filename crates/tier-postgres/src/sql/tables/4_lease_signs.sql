-- Signs of the holders of leases: a row for each load that takes long, and for each that failed. The
-- table is unlogged, because a crash of the server removes the leases too.
CREATE UNLOGGED TABLE {schema}.lease_signs (
    token bigint PRIMARY KEY,
    given_back boolean NOT NULL,
    expires_at bigint NOT NULL
);
COMMENT ON TABLE {schema}.lease_signs IS
    'Leases whose holder gave a sign of life, or gave them back; valid until expires_at (ms since 1970).';
