"""From logs to rows: metrics with intervals, from the logs alone. Needs no torch."""
