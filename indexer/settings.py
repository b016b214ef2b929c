"""What the indexer can be told."""

from pathlib import Path

from pydantic import Field

from podium.settings import ListenSettings


class IndexerSettings(ListenSettings):
    """Settings of `python -m indexer`."""

    listen: str = Field("127.0.0.1:7461", description="HOST:PORT the gateways reach; port 0 = any free one.")
    store_file: Path = Field(Path("podium.duckdb"), description="The projection; may be deleted and is then rebuilt.")
    store_memory_mb: int = Field(1024, ge=128, description="Memory DuckDB may use for the projection, MiB.")
    store_threads: int = Field(1, ge=1, le=64, description="Threads DuckDB may use for lists, usage and checkpoints.")
    erased_sessions: frozenset[str] = Field(
        frozenset(), description="Sessions (bare UUIDs) whose gaps were erased on purpose and stop nothing."
    )
    read_timeout_s: float = Field(30.0, gt=0, le=600, description="Longest a list may take or wait, seconds.")
    query_timeout_s: float = Field(30.0, gt=0, le=3600, description="Longest a SQL query may take, seconds.")
    query_max_rows: int = Field(1_000_000, ge=1, description="Rows after which the answer to a SQL query ends.")
    query_max_mb: int = Field(1024, ge=1, description="Size at which the answer to a SQL query fails, MiB.")
    query_memory_mb: int = Field(512, ge=64, description="Memory a SQL query may use, MiB.")
    queries_running: int = Field(2, ge=1, le=64, description="SQL queries that run at once, each in its own process.")
    queries_waiting: int = Field(16, ge=0, le=1000, description="SQL queries that may wait for one of those places.")
