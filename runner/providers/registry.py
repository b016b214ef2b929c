"""The providers a runner can have: one line each. Nothing is imported of a client until it runs."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from runner.providers.claude.provider import ClaudeProvider
from runner.providers.port import Registration

REGISTRY: Final[Mapping[str, Registration]] = MappingProxyType(
    {
        "claude": Registration(ClaudeProvider, environment_prefixes=("ANTHROPIC_", "CLAUDE_", "DISABLE_")),
    }
)
"""How each provider is made, and which variables its client may see beside the system's."""
