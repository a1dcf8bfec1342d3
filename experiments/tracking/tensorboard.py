"""TensorBoard: `tensorboard --logdir FOLDER/tensorboard` shows a run while it goes on."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from torch.utils.tensorboard import SummaryWriter

FOLDER = "tensorboard"


class TensorBoard:
    """Writes event files, a folder for each scene; one is open at a time."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / FOLDER
        self._scene = ""
        self._open: SummaryWriter | None = None

    def text(self, scene: str, name: str, text: str) -> None:
        """Writes a text, which TensorBoard reads as Markdown: it is indented, as code."""
        lines = [f"    {line}" for line in text.splitlines()]
        self._writer(scene).add_text(name, "\n".join(lines))

    def curve(self, scene: str, name: str, values: Sequence[float]) -> None:
        """Writes a value for each epoch."""
        writer = self._writer(scene)
        for epoch, value in enumerate(values):
            writer.add_scalar(name, value, epoch)

    def figures(self, scene: str, values: Mapping[str, float]) -> None:
        """Writes metrics, each at step 0."""
        writer = self._writer(scene)
        for name, value in values.items():
            writer.add_scalar(name, value, 0)

    def close(self) -> None:
        """Closes the file that is open."""
        if self._open is not None:
            self._open.close()
            self._open = None

    def _writer(self, scene: str) -> SummaryWriter:
        if self._open is None or scene != self._scene:
            self.close()
            self._open = SummaryWriter(str(self._folder / scene))
            self._scene = scene
        return self._open
