-- What the holders of leases say of themselves: rows of loads that last, and of loads that failed.
-- Unlogged: after a crash of the server the leases are gone too.
CREATE UNLOGGED TABLE {schema}.lease_signs (
    token bigint PRIMARY KEY,
    given_back boolean NOT NULL,
    expires_at bigint NOT NULL
);
COMMENT ON TABLE {schema}.lease_signs IS
    'Leases whose holder shows signs of life, or gave them back, until expires_at (ms since 1970).';
CREATE INDEX lease_signs_by_deadline ON {schema}.lease_signs (expires_at);
