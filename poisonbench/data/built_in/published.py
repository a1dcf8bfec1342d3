"""Files as they were published: found in a folder or fetched from their home, told by their sha256.

Nothing is fetched unless asked for, and nothing is read that is not the published file.
"""

import hashlib
import os
import shutil
import tempfile
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from poisonbench.errors import DataError

WAIT = 60  # seconds without an answer after which a home counts as out of reach


@dataclass(frozen=True)
class Published:
    """A file that many have a copy of.

    Attributes:
        path: below the folder of downloaded data.
        url: its public home.
        sha256: of its bytes, in hexadecimal.
    """

    path: str
    url: str
    sha256: str

    def read(self, root: Path, download: bool) -> bytes:
        """Returns what the file holds.

        Args:
            root: the folder of downloaded data.
            download: fetch the file from its home if it is not there.

        Raises:
            DataError: it is not there, cannot be fetched, or is another file.
        """
        place = root / self.path
        if not place.is_file():
            if not download:
                raise DataError(
                    f"{self.path} was not found in {root.resolve()}; it comes from {self.url}",
                    "add --download, or point --data-root or POISONBENCH_DATA at it",
                )
            self._fetch(place)
        held = place.read_bytes()
        found = hashlib.sha256(held).hexdigest()
        if found != self.sha256:
            raise DataError(
                f"{place.resolve()} is not the published file: its sha256 is {found}, "
                f"that of {self.url} {self.sha256}",
                "fetch it anew: --data-root with another folder, and --download; data of your own: "
                "package.module:function",
            )
        return held

    def _fetch(self, place: Path) -> None:
        """Puts the file in its place, whole or not at all.

        Raises:
            DataError: its home cannot be reached, or the folder cannot be written.
        """
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(dir=place.parent, prefix=".fetching-")
        except OSError as error:
            raise DataError(
                f"{place.parent} cannot be written: {error}", "choose --data-root"
            ) from error
        part = Path(name)
        try:
            with (
                os.fdopen(handle, "wb") as sink,
                urllib.request.urlopen(self.url, timeout=WAIT) as source,  # noqa: S310
            ):
                shutil.copyfileobj(source, sink)
            part.replace(place)
        except OSError as error:  # URLError and HTTPError are OSErrors
            part.unlink()
            raise DataError(
                f"{self.url} cannot be fetched: {error}", "check the network"
            ) from error
