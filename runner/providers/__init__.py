"""The providers: one port, one folder for each client, one registry."""
