"""Which stage pays for the death of its process: the first that was open, at the second death."""

from pathlib import Path

from experiments.plan.stages import Job
from experiments.runner.worker import Outcome, record_failure
from poisonbench.errors import LogWriteError

TRIES = 2  # deaths after which a stage has failed


class Blame:
    """The deaths of processes so far, by the stage that was at work."""

    def __init__(self) -> None:
        self._deaths: dict[Path, int] = {}

    def died(self, job: Job, how: str) -> Outcome:
        """Returns the outcome of a job whose process died; its stage is tried once more.

        Args:
            job: that was at work.
            how: it died, for the reason of the failure.
        """
        if not job.open:
            return Outcome()
        stage = job.open[0].path
        self._deaths[stage] = self._deaths.get(stage, 0) + 1
        if self._deaths[stage] < TRIES:
            return Outcome()
        return failed(job, f"its process died twice ({how})")


def took_too_long(job: Job, seconds: float | None) -> Outcome:
    """Returns the outcome of a job that was ended because it took longer than allowed."""
    if not job.open:
        return Outcome()
    return failed(job, f"took longer than the {seconds:g} s allowed")


def failed(job: Job, reason: str) -> Outcome:
    """Records the failure of the first open stage of a job."""
    stage = job.open[0]
    try:
        record_failure(job, stage, reason)
    except LogWriteError as unwritten:
        return Outcome(fatal=str(unwritten))
    return Outcome([f"{job.scene.id}/{stage.path.stem}: {reason}"])
