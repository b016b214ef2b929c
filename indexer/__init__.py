"""The indexer: projects the log into DuckDB and answers lists, usage and SQL from there."""
