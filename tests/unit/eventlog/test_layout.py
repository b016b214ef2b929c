"""Subjects and stream configurations."""

import pytest

from podium import names
from podium.eventlog import Limits
from podium.eventlog.layout import events_subject, live_subject, partition_subjects, session_of, streams

SESSION = "01a2027f-cdb9-7240-8074-ad7383a74bc0"


def test_a_session_has_one_subject_for_ever() -> None:
    # Changing this would hide every session that is on a log.
    assert events_subject(SESSION) == f"events.147.{SESSION}"
    assert session_of(events_subject(SESSION)) == SESSION
    assert live_subject(SESSION) == f"live.{SESSION}"


def test_partitions_are_filters_over_all_their_sessions() -> None:
    assert partition_subjects([1, 7]) == ["events.1.*", "events.7.*"]
    assert f"events.{names.partition(SESSION)}.*" in partition_subjects(range(names.PARTITIONS))


@pytest.mark.parametrize("replicas", [1, 3])
def test_every_stream_is_on_disk_on_all_replicas_and_can_be_erased_from(replicas: int) -> None:
    for config in streams(Limits(replicas=replicas)).values():
        assert (config["storage"], config["num_replicas"]) == ("file", replicas)
        assert not {"deny_delete", "deny_purge", "allow_rollup_hdrs", "persist_mode"} & config.keys()


def test_facts_are_refused_rather_than_forgotten() -> None:
    assert streams(Limits())["EVENTS"]["discard"] == "new"
    assert "max_age" not in streams(Limits())["EVENTS"]
