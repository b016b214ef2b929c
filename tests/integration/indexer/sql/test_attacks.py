"""What nobody may do: each attack in attacks.sql is stopped by what it names, and leaves both files as they were."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from indexer.sql.errors import QueryFailed, QueryTimedOut, QueryTooLarge, StatementRefused
from indexer.sql.service import QueryLimits

pytestmark = pytest.mark.asyncio(loop_scope="module")

MAKES = {"memory": QueryTooLarge, "time": QueryTimedOut, "failed": QueryFailed, "refused": StatementRefused}


async def test_an_attack_is_stopped_and_changes_nothing(
    shared: tuple[Any, Any, Any], attack: tuple[str, str], rows_of: Callable[..., Any], sha256_of: Callable[[Path], str]
) -> None:
    store, snapshots, runner = shared
    async with snapshots.lease() as copy:
        before = sha256_of(copy.path), sha256_of(store.path)
        header, _, template = attack[1].partition("\n")
        stop = re.fullmatch(r"-- stopped by: (memory|time|failed|refused)(?:: ?(.*))?", header)
        assert stop is not None, header
        sql = filled(template, copy.path, store.path)
        limits = QueryLimits(timeout_s=2.0 if stop[1] == "time" else 30.0)
        with pytest.raises(MAKES[stop[1]]) as caught:
            await rows_of(runner, sql, limits=limits)
        if isinstance(caught.value, QueryTooLarge):
            assert caught.value.resource == "memory"
        assert (stop[2] or "").lower() in str(caught.value).lower()
        assert len(str(caught.value)) <= 600
        assert (sha256_of(copy.path), sha256_of(store.path)) == before


def filled(template: str, snapshot: Path, live: Path) -> str:
    words = {"snapshot": str(snapshot), "live": str(live), "long": "x" * 100_001}
    words |= {"deep": "NOT " * 400 + "true", "deeper": "(" * 40_000 + "1" + ")" * 40_000}
    return re.sub(r"\{(snapshot|live|deep|deeper|long)\}", lambda found: words[found[1]], template)
