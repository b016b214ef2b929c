"""The `podium` command: a gRPC client for people and programs, and `podium up`, which starts the services."""
