"""docs/sql.md lists every view with every column, in order, with its type; and nothing else."""

import re
from pathlib import Path

from indexer.store import Store
from indexer.views import RELATIONS
from tests.integration.indexer.conftest import table

PAGE = Path(__file__).parents[3] / "docs" / "sql.md"


def documented() -> dict[str, list[tuple[str, str]]]:
    """Return view -> (column, type), as the page has them."""
    sections = re.split(r"^## (\w+)$", PAGE.read_text(), flags=re.MULTILINE)[1:]
    return {
        view: [
            (name, kind)
            for name, kind in re.findall(r"^\| (\w+) \| ([^|]+?) \|", text, flags=re.MULTILINE)
            if name != "column"
        ]
        for view, text in zip(sections[::2], sections[1::2], strict=True)
    }


async def test_the_page_lists_every_view_and_every_column_with_its_type(live_store: Store) -> None:
    shown = {
        view: [(row["column_name"], row["column_type"]) for row in table(live_store, f"DESCRIBE {view}")]
        for view in RELATIONS
    }
    assert documented() == shown
