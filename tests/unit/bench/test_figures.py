"""Figures are told with their reference and their aim, and a missed aim is seen."""

import json

import pytest

from bench.figures import Figure, Line, against, as_json, as_markdown, as_text, percentile, spread

ABOUT = {
    "processor": "A processor",
    "cores": 2,
    "memory_gb": 16,
    "system": "Linux",
    "python": "3.11",
    "packages": {"duckdb": "2.0"},
    "commit": "abc",
    "at": "2026-11-22T10:00:00+00:00",
    "quick": False,
}
REFERENCE = Line("reference: bare", 2.0, "ms")


@pytest.mark.parametrize(("percent", "expected"), [(50, 50), (99, 99), (100, 100), (1, 1)])
def test_a_percentile_is_the_sample_that_so_many_do_not_exceed(percent: int, expected: int) -> None:
    assert percentile([float(number) for number in range(100, 0, -1)], percent) == expected


def test_a_percentile_of_one_sample_is_that_sample() -> None:
    assert percentile([7.0], 50) == percentile([7.0], 99) == 7.0


def test_times_are_told_with_ratio_and_aim() -> None:
    p50, p99 = spread("call", [1.0, 4.0, 9.0], reference=REFERENCE, aims={99: 5.0})
    assert (p50.value, p50.against, p50.ratio, p50.met) == (4.0, "reference: bare", 2.0, None)
    assert (p99.value, p99.ratio, p99.met, p99.aim) == (9.0, None, False, "<= 5 ms")
    assert "3 samples, worst 9.0 ms" in p99.note


def test_a_missed_aim_is_seen_in_every_form() -> None:
    name, ratio = against(3.0, REFERENCE)
    line = Line("ours", 3.0, "ms", name, ratio, "<= 1 x", met=False)
    figure = Figure("5", "A turn", [REFERENCE, line], load_before=3.5, load_after=4.25)
    assert figure.missed == [line]
    for shown in (as_text(figure), as_markdown([figure], ABOUT)):
        assert "MISSED" in shown
        assert "1.5 x reference: bare" in shown
        assert "3.5" in shown
        assert "4.2" in shown
    stored = json.loads(as_json([figure], ABOUT))
    assert stored["figures"][0]["lines"][1]["met"] is False
    assert stored["commit"] == "abc"


def test_what_could_not_be_measured_says_why() -> None:
    figure = Figure("1", "Throughput", problem="TimeoutError: too slow")
    assert "not measured: TimeoutError: too slow" in as_text(figure)
    assert "Not measured: TimeoutError: too slow" in as_markdown([figure], ABOUT)
