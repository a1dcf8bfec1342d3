"""Where modules are looked for: the working directory comes last, so that it hides nothing."""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]  # of our packages


def look_last(folder: Path) -> None:
    """Puts a folder at the end of `sys.path`, wherever it was: `module:Class` finds a file in it.

    `python -m` puts the working directory first, where a file `attacks.py` would take the place of
    our package. Worker processes are given the path of their parent. The source tree stays where it
    is: our packages are found in it.
    """
    here = folder.resolve()
    if here == ROOT:
        return
    others = [entry for entry in sys.path if Path(entry).resolve() != here]
    sys.path[:] = [*others, str(here)]
