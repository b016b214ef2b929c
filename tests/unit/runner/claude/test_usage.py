"""What the meter yields adds up to what the client counts, whatever is streamed, shown or cut short."""

from hypothesis import given
from hypothesis import strategies as st

from podium.v1 import event_pb2
from runner.providers.claude.usage import Counted, UsageMeter, window_tokens

CALLS = st.lists(
    st.tuples(st.booleans(), st.integers(0, 1000), st.integers(1, 1000), st.sampled_from(["a", "b"])), max_size=8
)


def model_usage(per_model: dict[str, tuple[int, int]]) -> dict[str, object]:
    used = {name: {"inputTokens": sent, "outputTokens": got} for name, (sent, got) in per_model.items()}
    return {"model_usage_since_last_result": used}


def streamed(meter: UsageMeter, number: int, sent: int, got: int, model: str) -> list[Counted]:
    message = {"id": f"m{number}", "model": model, "usage": {"input_tokens": sent, "output_tokens": 1}}
    counted = list(meter.start(message))
    meter.update({"output_tokens": got})
    return counted + list(meter.close(complete=True))


def shown(meter: UsageMeter, number: int, sent: int, model: str) -> list[Counted]:
    message = {"id": f"m{number}", "model": model, "usage": {"input_tokens": sent, "output_tokens": 1}}
    return list(meter.shown(message, "call", "req"))


def totals(counted: list[Counted]) -> tuple[int, int]:
    usages = [one.usage for one in counted]
    return sum(u.uncached_input_tokens for u in usages), sum(u.output_tokens for u in usages)


@given(st.lists(CALLS, max_size=4))
def test_facts_add_up_to_the_clients_own_count(turns: list[list[tuple[bool, int, int, str]]]) -> None:
    meter, counted, number = UsageMeter(), [], 0
    sent_in_all = got_in_all = 0
    for calls in turns:
        per_model: dict[str, tuple[int, int]] = {}
        for is_streamed, sent, got, model in calls:
            number += 1
            counted += streamed(meter, number, sent, got, model) if is_streamed else shown(meter, number, sent, model)
            before = per_model.get(model, (0, 0))
            per_model[model] = (before[0] + sent, before[1] + got)
            sent_in_all, got_in_all = sent_in_all + sent, got_in_all + got
        counted += list(meter.settle(model_usage(per_model)))
    assert totals(counted) == (sent_in_all, got_in_all)


def test_a_call_that_is_cut_short_is_a_lower_bound_and_no_guess_is_added() -> None:
    meter = UsageMeter()
    list(meter.start({"id": "m", "model": "a", "usage": {"input_tokens": 11, "output_tokens": 1}}))
    (cut,) = meter.cut()
    assert cut.usage.accuracy == event_pb2.USAGE_ACCURACY_LOWER_BOUND
    assert (cut.usage.uncached_input_tokens, cut.usage.output_tokens) == (11, 1)
    assert not list(meter.settle(model_usage({"a": (11, 50)})))


def test_a_call_that_still_runs_at_the_result_is_not_counted_twice() -> None:
    meter = UsageMeter()
    counted = shown(meter, 1, 100, "a")
    counted += list(meter.settle(model_usage({})))
    counted += list(meter.settle(model_usage({"a": (100, 40)})))
    assert totals(counted) == (100, 40)


def test_models_under_other_names_are_compared_as_a_whole() -> None:
    meter = UsageMeter()
    counted = shown(meter, 1, 100, "a-20260101")
    counted += list(meter.settle(model_usage({"a": (100, 40)})))
    assert totals(counted) == (100, 40)


def test_cache_writes_are_kept_apart() -> None:
    meter = UsageMeter()
    usage = {
        "input_tokens": 1,
        "cache_read_input_tokens": 2,
        "cache_creation_input_tokens": 7,
        "cache_creation": {"ephemeral_5m_input_tokens": 4, "ephemeral_1h_input_tokens": 3},
        "output_tokens": 1,
    }
    list(meter.start({"id": "m", "model": "a", "usage": usage}))
    meter.update({"output_tokens": 9, "output_tokens_details": {"thinking_tokens": 5}, "cache_creation": None})
    (counted,) = meter.close(complete=True)
    found = counted.usage
    assert (found.uncached_input_tokens, found.cache_read_tokens) == (1, 2)
    assert (found.cache_write_5m_tokens, found.cache_write_1h_tokens) == (4, 3)
    assert (found.output_tokens, found.reasoning_tokens) == (9, 5)
    assert meter.context_tokens == 1 + 2 + 4 + 3 + 9


def test_the_window_is_the_clients() -> None:
    result = {"modelUsage": {"x": {"contextWindow": 5}, "y": {"contextWindow": 7, "canonicalModel": "z"}}}
    assert [window_tokens(result, name) for name in ("x", "z", "other")] == [5, 7, 0]
    assert window_tokens({"modelUsage": {"x": {"contextWindow": 5}}}, "other") == 5
