"""The processes of a run: scheduling, workers, and the lock of its folder."""
