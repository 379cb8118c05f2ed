"""From an annotation file of any format to the arrays of a COCO file.

A format of one's own is one function of the annotation file and the folder of images that returns
the content of a COCO file: a dict of images, annotations and categories. What follows (checks,
index, evaluation, resume) is the same for all formats.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from detector.data.annotations import Annotations, annotations_of, read_annotations
from detector.imported import calling, imported

COCO = "coco"
Function = Callable[[Path, Path], dict[str, Any]]
Reader = Callable[[Path, Path], Annotations]  # annotation file, folder of images -> its content


def read_coco(annotations: Path, images: Path) -> Annotations:
    """The content of a COCO JSON file; InputError as `read_annotations` raises it."""
    return read_annotations(annotations)


@dataclass(frozen=True)
class OwnFormat:
    """A user's function as a reader.

    Not cached: what the function reads beside the annotation file is not known.
    """

    function: Function

    def __call__(self, annotations: Path, images: Path) -> Annotations:
        """What the function returns, checked as a COCO file is.

        Raises InputError where the function fails, naming its line, and where the content is not
        of COCO's form, naming `annotations`.
        """
        with calling(self.function, str(annotations)):
            content = self.function(annotations, images)
        return annotations_of(_plain(content), annotations)


def reader(name: str) -> Reader:
    """The reader "coco", or that of a function "module:function".

    Raises:
        ValueError: it cannot be imported, or is no function.
    """
    if name == COCO:
        return read_coco
    function = imported(name)
    if not callable(function):
        raise ValueError(
            f"found {name!r}, which is a {type(function).__name__}; it should be a function of the "
            "annotation file and the folder of images"
        )
    return OwnFormat(function)


def _plain(value: Any) -> Any:
    """The value as JSON would have it: lists and Python's numbers, not tuples and NumPy's."""
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    return str(value) if isinstance(value, Path) else value
