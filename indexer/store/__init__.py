"""The store: owns the live DuckDB file, and is the one part of the service that imports duckdb for it."""

from indexer.store.live import Store, StoreFailed
from indexer.store.opening import StoreLimits, StoreUnusable, open_store

__all__ = ["Store", "StoreFailed", "StoreLimits", "StoreUnusable", "open_store"]
