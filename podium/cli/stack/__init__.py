"""What `podium up` runs: NATS and the services as child processes over one data folder."""
