"""Podium runs AI coding-agent sessions as a service: the shared ground of its services and the `podium` command."""

__version__ = "0.1.0"
