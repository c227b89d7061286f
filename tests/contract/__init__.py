"""One suite for every store: SQL on PostgreSQL, SQL through the CockroachDB dialect, memory."""
