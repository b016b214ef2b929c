"""Every process is killed again and again under load; nothing acknowledged is lost, doubled or out of order.

A seed repeats the moments: `bin/test --chaos tests/chaos/test_kills.py -k "nats and 7"` runs that of NATS with seed 7.
"""

from pathlib import Path

import pytest

from tests.support.campaign import Campaign, Kill
from tests.support.stage import stage

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(900)]

KILLS = 20
SEEDS = (1,)
"""One run is minutes long. A seed that found a fault is added here, with what it found."""


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("victim", ["nats", "gateway", "load", "indexer"])
async def test_nothing_acknowledged_is_lost_doubled_or_out_of_order(tmp_path: Path, victim: str, seed: int) -> None:
    async with stage(tmp_path) as whole:
        campaign = await Campaign(whole, seed, victim).run(KILLS)
    assert campaign.problems == []
    assert len(campaign.kills) == KILLS
    assert [kill for kill in campaign.kills if kill.stored < kill.acknowledged] == []
    assert len(campaign.commands.answered) == len(campaign.commands.sent)
    assert was_busy(campaign.kills)


@pytest.mark.cluster
async def test_the_same_holds_when_members_of_a_cluster_are_killed(tmp_path: Path) -> None:
    async with stage(tmp_path, cluster=True) as whole:
        campaign = await Campaign(whole, 2, "nats").run(KILLS // 2)
    assert campaign.problems == []
    assert [kill for kill in campaign.kills if kill.stored < kill.acknowledged] == []


@pytest.mark.parametrize("victim", ["nats", "gateway", "load"])
async def test_without_the_guard_the_same_campaign_finds_faults(tmp_path: Path, victim: str) -> None:
    """The proof of the proof: one constant is changed in the load process, and everything turns red."""
    async with stage(tmp_path) as whole:
        campaign = await Campaign(whole, 1, victim, load_module="tests.support.unguarded").run(3)
    assert [problem for problem in campaign.problems if "revisions" in problem]
    assert [problem for problem in campaign.problems if "DuckDB" in problem]


def was_busy(kills: list[Kill]) -> bool:
    """Return whether at least half of the kills met 1,000 events per second, so that they proved something."""
    return sum(kill.rate >= 1_000 for kill in kills) * 2 >= len(kills)
