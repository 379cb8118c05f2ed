"""Objects of a user's own modules, which a config names as "module:name"."""

from __future__ import annotations

import importlib
import inspect
import os
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from detector.errors import InputError


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
    except (Exception, SystemExit) as error:  # a user's module may fail in any way
        last = traceback.extract_tb(error.__traceback__)[-1]
        ours = last.filename.startswith("<") or last.filename == __file__
        where = "" if ours else f" ({last.filename}, line {last.lineno})"
        raise ValueError(
            f"found {name!r}, which cannot be imported: {type(error).__name__}: {error}{where}; "
            f"{_advice(error, module)}"
        ) from error
    finally:
        sys.path[:] = path


def _advice(error: BaseException, module: str) -> str:
    if isinstance(error, ModuleNotFoundError) and error.name == module.partition(".")[0]:
        return "start in the folder of that module, or put the folder on PYTHONPATH"
    return "correct the module, or the name"


def is_own(thing: Any) -> bool:
    """Whether a function, or the class of an object, is a user's."""
    return not str(_named(thing).__module__).startswith("detector.")


def name_of(thing: Any) -> str:
    """ "module:name" of a user's function, or of an object's class."""
    named = _named(thing)
    return f"{named.__module__}:{named.__qualname__}"


def _named(thing: Any) -> Any:
    return thing if hasattr(thing, "__qualname__") else type(thing)


@contextmanager
def calling(thing: Any, subject: str) -> Iterator[None]:
    """Whatever a user's function or object raises, told in one sentence with its file and line.

    subject: what it was called for, which the sentence begins with. An InputError, which has such
    a sentence already, is left as it is.
    """
    try:
        yield
    except InputError:
        raise
    except (Exception, SystemExit) as error:  # a user's code may fail in any way
        raise InputError(
            f"{subject}: {name_of(thing)} failed with {type(error).__name__}: {error} "
            f"({line_of(thing, error)}); correct the function, or what it was given."
        ) from error


def line_of(thing: Any, error: BaseException | None = None) -> str:
    """The file and line of a user's function or object: where an error left it, if there is one."""
    file = getattr(sys.modules.get(_named(thing).__module__), "__file__", None)
    frames = traceback.extract_tb(error.__traceback__) if error else []
    # theirs, if it failed in a library that they called
    places = [(frame.filename, frame.lineno) for frame in frames if frame.filename == file]
    code = getattr(inspect.unwrap(thing), "__code__", None)
    if code is not None and not places:  # it was called wrongly
        places = [(code.co_filename, code.co_firstlineno)]
    path, line = (places or [(frame.filename, frame.lineno) for frame in frames])[-1]
    return f"{path}, line {line}"
