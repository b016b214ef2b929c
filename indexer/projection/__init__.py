"""From the log to rows, purely: what each fact adds to each table."""
