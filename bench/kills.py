"""Figure 7: kills of each process at random moments under load: what was in flight, acknowledged, and stored.

The campaign is that of tests/chaos/test_kills.py, with its proof: revisions on the log and in DuckDB are 1..n, the
owners' numbers have no gap and no repeat, each command has one effect. `python -m bench 7`; the seed is the day's.
"""

import time

from bench.figures import Line, Run, median
from tests.support.campaign import VICTIMS, Campaign, Kill
from tests.support.stage import stage

KILLS, SABOTAGED_KILLS = 20, 2


async def measure(run: Run) -> list[Line]:
    """Run the campaign for every process, then once without the guard."""
    seed = int(time.time()) // 86_400
    lines = []
    for victim in VICTIMS:
        async with stage(run.folder / victim) as whole:
            campaign = await Campaign(whole, seed, victim).run(run.times(KILLS, 2))
        lines += [summary(campaign), *(line_of(victim, kill) for kill in campaign.kills)]
    async with stage(run.folder / "unguarded") as whole:
        sabotaged = Campaign(whole, seed, "load", load_module="tests.support.unguarded")
        await sabotaged.run(SABOTAGED_KILLS)
    found = len(sabotaged.problems)
    lines.append(
        Line("without the guard: faults found", found, "faults", aim="> 0", met=found > 0, note=sabotaged.problems[0])
    )
    return lines


def summary(campaign: Campaign) -> Line:
    lost = sum(max(0, kill.acknowledged - kill.stored) for kill in campaign.kills)
    faults = len(campaign.problems) + lost
    note = (
        f"seed {campaign.seed}; {campaign.noted.events_acknowledged:,} events and {len(campaign.commands.answered):,} "
        f"commands acknowledged, all read back; median {median([kill.rate for kill in campaign.kills]):.0f} events/s "
        f"before a kill, back after {median([kill.recovery_s for kill in campaign.kills]):.1f} s"
    )
    if campaign.problems:
        note += f"; {campaign.problems[0]}"
    what = f"{len(campaign.kills)} kills of {campaign.victim}: lost, doubled or out of order"
    return Line(what, faults, "events", aim="0", met=faults == 0, note=note)


def line_of(victim: str, kill: Kill) -> Line:
    unit = "positions" if victim == "indexer" else "in flight"
    note = f"acknowledged {kill.acknowledged:,}, stored {kill.stored:,}; {kill.rate:.0f} events/s, "
    note += f"back after {kill.recovery_s:.1f} s"
    return Line(f"{victim}, kill {kill.number}", kill.in_flight, unit, note=note)
