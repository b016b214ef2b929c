"""What an owner hears, and what it makes of it: marks that are neither missed nor set without need."""

import asyncio
import time

import pytest
from nats.aio.client import Client
from nats.aio.msg import Msg

from podium.eventlog import ears as module
from podium.eventlog.ears import Ears


def republished(position: int) -> Msg:
    headers = {"Nats-Sequence": str(position), "Nats-Subject": "events.7.s", "Nats-Time-Stamp": "2026-11-22T09:04:19Z"}
    return Msg(Client(), "live.s", "", b"", headers)


def heard(ears: Ears, *positions: int) -> None:
    for position in positions:
        ears._appended(republished(position))


def fresh(position: int = 5) -> tuple[Ears, asyncio.Event]:
    woken = asyncio.Event()
    return Ears(position, woken.set), woken


async def test_what_is_known_already_wakes_nobody() -> None:
    ears, woken = fresh()
    heard(ears, 4, 5)
    assert not ears.stale
    assert not woken.is_set()


async def test_a_foreign_fact_wakes_the_owner() -> None:
    ears, woken = fresh()
    heard(ears, 6)
    assert ears.stale
    assert woken.is_set()


async def test_the_own_append_heard_before_its_answer_is_not_taken_for_foreign() -> None:
    ears, woken = fresh()
    ears.expecting = True
    heard(ears, 6)
    ears.expecting = False
    ears.stored(6)
    assert not ears.stale
    assert not woken.is_set()


async def test_a_fact_heard_right_behind_the_own_append_is_looked_at_after_the_answer() -> None:
    ears, woken = fresh()
    ears.expecting = True
    heard(ears, 6, 7)
    ears.expecting = False
    ears.stored(6)
    assert ears.stale
    assert woken.is_set()


async def test_the_own_append_heard_after_its_answer_wakes_nobody() -> None:
    ears, woken = fresh()
    ears.stored(6)
    heard(ears, 6)
    assert not ears.stale
    assert not woken.is_set()


async def test_a_pause_ends_when_somebody_has_appended() -> None:
    ears, _ = fresh()
    ears._asked_to_yield(republished(0))
    pausing = asyncio.create_task(ears.pause_if_asked())
    await asyncio.sleep(0.01)
    assert not pausing.done()
    heard(ears, 6)
    assert await asyncio.wait_for(pausing, 0.1)


async def test_a_pause_ends_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "YIELD_S", 0.05)
    ears, _ = fresh()
    ears._asked_to_yield(republished(0))
    begun = time.monotonic()
    assert await ears.pause_if_asked()
    assert time.monotonic() - begun >= 0.04


async def test_a_wish_of_long_ago_pauses_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "YIELD_S", 0.01)
    ears, _ = fresh()
    ears._asked_to_yield(republished(0))
    await asyncio.sleep(0.02)
    assert not await ears.pause_if_asked()


async def test_between_two_pauses_the_owner_appends_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "YIELD_S", 0.02)
    ears, _ = fresh()
    ears._asked_to_yield(republished(0))
    assert await ears.pause_if_asked()
    ears._asked_to_yield(republished(0))
    assert not await ears.pause_if_asked()
    ears.stored(6)
    ears._asked_to_yield(republished(0))
    assert await ears.pause_if_asked()
