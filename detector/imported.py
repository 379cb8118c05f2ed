"""Objects of a user's own modules, which a config names as "module:name"."""

from __future__ import annotations

import importlib
import os
import sys
import traceback
from typing import Any


def imported(name: str) -> Any:
    """The object `module:name`, of a module on Python's path or in the current folder.

    Raises:
        ValueError: there is no such module, it fails, or it has no such name.
    """
    module, _, attribute = name.partition(":")
    path = list(sys.path)
    sys.path.append(os.getcwd())
    try:
        return getattr(importlib.import_module(module), attribute)
    except Exception as error:  # a user's module may fail in any way
        last = traceback.extract_tb(error.__traceback__)[-1]
        ours = last.filename.startswith("<") or last.filename == __file__
        where = "" if ours else f" ({last.filename}, line {last.lineno})"
        raise ValueError(
            f"found {name!r}, which cannot be imported: {type(error).__name__}: {error}{where}; "
            "start in the folder of that module, or put the folder on PYTHONPATH"
        ) from error
    finally:
        sys.path[:] = path
