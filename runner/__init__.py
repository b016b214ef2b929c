"""The runner takes leases on sessions, runs providers, publishes what they say.

Nothing is imported here: every start of the launcher comes through this file.
"""
