"""Arrays kept from one start to the next."""

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
    """Named arrays, known by a digest of all that they were made from."""

    places: tuple[Path, ...]
    digest: str

    @classmethod
    def beside(cls, path: Path, kind: str, digest: str) -> Cache:
        """In a hidden file next to `path`; for folders that cannot be written, the user's cache."""
        home = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
        own = path.with_name(f".{path.stem}.{kind}.npz")
        return cls((own, Path(home, "detector", f"{digest}.npz")), digest)

    def load(self) -> dict[str, NDArray] | None:
        """The arrays; None where there are none, or half a file, or those of another digest."""
        for place in self.places:
            with suppress(OSError, EOFError, KeyError, ValueError, zipfile.BadZipFile):
                with np.load(place, allow_pickle=False) as stored:
                    arrays = dict(stored)
                if str(arrays.pop("digest")) == self.digest:
                    return arrays
        return None

    def save(self, **arrays: NDArray) -> None:
        """Write the first place that can be written; a cache that cannot be kept is no error."""
        contents: dict[str, Any] = {"digest": np.array(self.digest), **arrays}
        for place in self.places:
            draft = place.with_name(f"{place.name}.{uuid.uuid4().hex}.draft")
            try:
                place.parent.mkdir(parents=True, exist_ok=True)
                with draft.open("wb") as file:
                    np.savez(file, **contents)
                os.replace(draft, place)
                return
            except OSError:
                with suppress(OSError):
                    draft.unlink()
