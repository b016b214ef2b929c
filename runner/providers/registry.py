"""The providers a runner can have: one line each."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

from runner.providers.claude.provider import ClaudeProvider
from runner.providers.port import Provider, ProviderSettings

PROVIDERS: Final[Mapping[str, Callable[[ProviderSettings], Provider]]] = MappingProxyType(
    {
        "claude": ClaudeProvider,
    }
)
"""What makes a provider from the runner's settings for it, by name. Nothing is imported of a client until it runs."""
