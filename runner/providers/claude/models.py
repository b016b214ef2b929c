"""The models the client offers, from what it says when it starts. Pure.

Source: `initialize` response of Claude Code 2.1.330, recorded 2026-11-22; docs/providers.md#claude-models.
"""

from typing import Final

from podium.v1 import provider_pb2
from runner.providers.claude.capabilities import NAME, VENDOR
from runner.providers.claude.records import JsonObject, dumps, objects, text

DEFAULT_EFFORT: Final = "high"
_EFFORTS: Final = {
    "low": "Answers fast with little thinking",
    "medium": "Balances speed and thoroughness",
    "high": "Thinks thoroughly; the client's default",
    "xhigh": "Thinks longer about hard problems",
    "max": "Thinks as long as it takes",
}
"""The client names the levels and does not describe them."""

_LONG_CONTEXT: Final = "[1m]"
_LONG_CONTEXT_TOKENS: Final = 1_000_000
_DEFAULT: Final = "default"


def models(server: JsonObject) -> list[provider_pb2.Model]:
    """Return the models in the client's `initialize` response, in its order."""
    return [_model(model, place) for place, model in enumerate(objects(server.get("models")), start=1)]


def names_of(server: JsonObject) -> frozenset[str]:
    """Return every name under which the client offers a model."""
    offered = objects(server.get("models"))
    return frozenset(text(model, key) for model in offered for key in ("value", "resolvedModel"))


def _model(model: JsonObject, place: int) -> provider_pb2.Model:
    value = text(model, "value")
    return provider_pb2.Model(
        value=value,
        display_name=text(model, "displayName") or value,
        description=text(model, "description"),
        provider=NAME,
        vendor=VENDOR,
        resolved_model=text(model, "resolvedModel"),
        is_default=value == _DEFAULT,
        is_current=value == _DEFAULT,
        efforts=_efforts(model),
        adaptive_thinking=model.get("supportsAdaptiveThinking") is True,
        # The client tells a model's window with its first result only; the suffix is its own promise.
        context_window_tokens=_LONG_CONTEXT_TOKENS if value.endswith(_LONG_CONTEXT) else 0,
        input_modalities=["text", "image"],
        priority=place,
        client_record_json=dumps(model),
    )


def _efforts(model: JsonObject) -> list[provider_pb2.Effort]:
    levels = model.get("supportedEffortLevels")
    if model.get("supportsEffort") is not True or not isinstance(levels, list):
        return []
    return [
        provider_pb2.Effort(value=level, description=_EFFORTS.get(level, ""), is_default=level == DEFAULT_EFFORT)
        for level in levels
        if isinstance(level, str)
    ]
