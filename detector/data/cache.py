"""Arrays cached on disk between runs."""

from __future__ import annotations

import os
import uuid
import zipfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Cache:
    """A file of named arrays; its digest identifies what they were computed from."""

    paths: tuple[Path, ...]  # in order of preference
    digest: str

    @classmethod
    def beside(cls, path: Path, kind: str, digest: str) -> Cache:
        """A hidden file beside `path`, or one in the user's cache if the folder is read-only."""
        home = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
        own = path.with_name(f".{path.stem}.{kind}.npz")
        return cls((own, Path(home, "detector", f"{digest}.npz")), digest)

    def load(self) -> dict[str, NDArray] | None:
        """The arrays; None if there is no file, or only damaged files or ones of another digest."""
        for path in self.paths:
            with suppress(OSError, EOFError, KeyError, ValueError, zipfile.BadZipFile):
                with np.load(path, allow_pickle=False) as stored:  # a pickle could run code
                    arrays = dict(stored)
                if str(arrays.pop("digest")) == self.digest:
                    return arrays
        return None

    def save(self, **arrays: NDArray) -> None:
        """Write the first path that is writable; it is no error if none is."""
        contents: dict[str, Any] = {"digest": np.array(self.digest), **arrays}
        for path in self.paths:
            # a name of its own: all ranks, and other runs, may write at the same time
            draft = path.with_name(f"{path.name}.{uuid.uuid4().hex}.draft")
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                with draft.open("wb") as file:
                    np.savez(file, **contents)
                os.replace(draft, path)
                return
            except OSError:
                with suppress(OSError):
                    draft.unlink()
