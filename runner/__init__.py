"""The runner: takes leases on sessions, runs providers, publishes what they say. Imports nothing: the launcher starts through here."""
