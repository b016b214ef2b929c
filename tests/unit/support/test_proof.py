"""The proof of the chaos suite finds each kind of fault: it is told a story with one in it."""

from collections import Counter
from pathlib import Path

import pytest

from podium.eventlog import StoredAppend
from podium.v1 import event_pb2 as e
from tests.support import stories
from tests.support.orders import Ledger, Noted
from tests.support.proof import Commands, wrong_commands, wrong_numbers
from tests.support.stories import SESSION


def log_of(numbers: list[int], epoch: int = 1) -> list[StoredAppend]:
    log = stories.Log()
    log.asked(stories.created())
    for number in numbers:
        text = stories.text(f"{epoch}:{number}:17{'.' * 20}")
        log.append(stories.message(e.ROLE_ASSISTANT, text))
    return log.appends


def noted(written: int, acknowledged: int) -> Noted:
    return Noted(Path("none"), {(SESSION, 1): written}, {(SESSION, 1): acknowledged})


@pytest.mark.parametrize(
    ("numbers", "written", "acknowledged", "fault"),
    [
        ([1, 2, 3], 3, 3, ""),
        ([1, 2, 3], 5, 2, ""),
        ([1, 2], 3, 3, "3 acknowledged, 2 stored"),
        ([], 3, 1, "1 acknowledged, 0 stored"),
        ([1, 3], 3, 2, "3 stands where 2 should"),
        ([1, 2, 2, 3], 3, 3, "2 stands where 3 should"),
        ([2, 1, 3], 3, 3, "2 stands where 1 should"),
        ([1, 2, 3, 4], 3, 3, "4 stored, 3 written"),
    ],
)
def test_lost_doubled_disordered_and_invented_events_are_found(
    numbers: list[int], written: int, acknowledged: int, fault: str
) -> None:
    problems = wrong_numbers(SESSION, log_of(numbers), noted(written, acknowledged))
    assert bool(problems) == bool(fault)
    assert any(fault in problem for problem in problems) or not fault


def test_each_epoch_has_numbers_of_its_own() -> None:
    both = Noted(Path("none"), {(SESSION, 1): 3, (SESSION, 2): 2}, {(SESSION, 1): 2, (SESSION, 2): 2})
    stored = log_of([1, 2, 3])
    assert wrong_numbers(SESSION, stored, both) == [f"{SESSION} epoch 2: 2 acknowledged, 0 stored"]


def test_commands_without_effect_and_with_two_are_found() -> None:
    commands = Commands(sent={"a": SESSION, "b": SESSION, "c": SESSION}, answered={"a", "b"})
    assert wrong_commands(commands, Counter({"a": 1, "b": 1})) == []
    assert wrong_commands(commands, Counter({"a": 1})) == ["request b was answered and has no fact"]
    assert wrong_commands(commands, Counter({"a": 1, "b": 1, "c": 2})) == ["request c has 2 appends"]


def test_a_ledger_is_read_on_from_where_it_was_read_to(tmp_path: Path) -> None:
    ledger, read = Ledger(str(tmp_path / "ledger")), Noted(tmp_path / "ledger")
    ledger.note("w", SESSION, 1, 5)
    ledger.note("a", SESSION, 1, 2)
    assert (read.read().events_written, read.events_acknowledged, read.in_flight) == (5, 2, 3)
    ledger.note("w", SESSION, 2, 4)
    # A killed process may leave half a line.
    with (tmp_path / "ledger").open("ab") as file:
        file.write(b"a " + SESSION.encode())
    assert (read.read().events_written, read.events_acknowledged, read.in_flight) == (9, 2, 4)
    with (tmp_path / "ledger").open("ab") as file:
        file.write(b" 2 4\n")
    assert (read.read().events_acknowledged, read.in_flight) == (6, 0)
