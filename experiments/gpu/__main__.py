"""python -m experiments.gpu PARTS: the check of a machine with an NVIDIA GPU."""

import os
import time
from pathlib import Path

import click

from experiments.cli.errors import Told
from experiments.cli.options import checked_device

PARTS = click.Choice(["tests", "bench", "reference"])


@click.command(cls=Told)
@click.argument("parts", nargs=-1, type=PARTS, required=True)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, file_okay=False),
    default=lambda: os.environ.get("OUT", "runs/gpu"),
    help="Folder of the records, PART.json. [default: $OUT, or runs/gpu]",
)
@click.option(
    "--logs",
    type=click.Path(path_type=Path, file_okay=False),
    default="runs",
    show_default=True,
    help="Folder of the logs of grids.",
)
@click.option("--data-root", type=click.Path(path_type=Path, file_okay=False))
@click.option("--device", default="cuda", show_default=True)
@click.option("--small", is_flag=True, help="Sizes that a CPU does in a minute.")
@click.option("--only", multiple=True, help="Measurements whose name begins so.")
@click.option("--seconds", default=540.0, show_default=True, help="For all parts.")
def main(
    parts: tuple[str, ...],
    output: Path,
    logs: Path,
    data_root: Path | None,
    device: str,
    small: bool,
    only: tuple[str, ...],
    seconds: float,
) -> None:
    """Tests, benchmarks and reference results, each measurement written as it ends."""
    import torch

    from experiments.gpu.parts import PARTS
    from experiments.gpu.record import Record, told
    from experiments.gpu.setting import Setting

    known = [one.name for part in parts for one in PARTS[part]]
    for prefix in only:
        if not any(name.startswith(prefix) for name in known):
            there = "; ".join(known)
            what = f"no measurement begins with {prefix!r} (there are: {there})"
            raise click.BadParameter(what, param_hint="--only")
    device = checked_device(device)
    end = time.monotonic() + seconds
    output.mkdir(parents=True, exist_ok=True)
    if data_root is not None:
        os.environ["POISONBENCH_DATA"] = str(data_root)
    setting = Setting(torch.device(device), small, output, logs)
    for part in parts:
        record = Record(output / f"{part}.json", setting.about)
        for measurement in PARTS[part]:
            if only and not measurement.name.startswith(only):
                continue
            found: dict[str, object] = {}
            left = end - time.monotonic()
            start = time.monotonic()
            if left <= 0:
                found["failed"] = "no time left"
            else:
                with told(found, min(left, measurement.seconds)):
                    measurement.take(setting, found)
            found["took, s"] = round(time.monotonic() - start, 1)
            record.keep(measurement.name, found)


if __name__ == "__main__":
    main()
