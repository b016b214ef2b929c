"""Read-only SQL for other people: one vetted SELECT, over a copy of the store, in a process that can be killed."""
