"""YAML files with their bases, and `--set` values: read, and merged into one document."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial, reduce
from pathlib import Path
from typing import Any

from detector import shipped, yaml_text
from detector.config.messages import nearest, shown
from detector.config.schema import ALTERNATIVES
from detector.errors import InputError
from detector.yaml_text import KeyPath, YamlDocument


def merged(path: Path, overrides: Sequence[str], places: Mapping[str, str]) -> YamlDocument:
    """A file over its bases, and overrides over it; arguments as of `load`."""
    files = _merged(_with_bases(path, parents=()), by_kind=True)
    if not overrides:
        return files
    # among themselves first, so that it does not matter which of them stands first
    documents = [_override(text, places.get(text, f"--set {text}")) for text in overrides]
    return _merged([files, _merged(documents, by_kind=False)], by_kind=True)


def _with_bases(path: Path, *, parents: tuple[Path, ...]) -> list[YamlDocument]:
    """The documents to merge for one file, lowest first."""
    chain = (*parents, path.resolve())
    if chain[-1] in parents:
        names = " -> ".join(step.name for step in chain)
        raise InputError(f"{path}: base: the files name each other in a circle: {names}.")
    document = read_file(path)
    layers = []
    for name in _bases(document):
        base = shipped.resolve(path.parent / name, Path(name))
        if not base.is_file():
            near = nearest(base.name, (p.name for p in base.parent.glob("*.yaml")))
            raise InputError(
                f"{document.origin(('base',))}: base: there is no file {base}{near or shipped.HINT}"
            )
        layers += _with_bases(base, parents=chain)
    values = {key: value for key, value in document.values.items() if key != "base"}
    return [*layers, YamlDocument(values, document.origins)]


def _bases(document: YamlDocument) -> list[str]:
    bases = document.values.get("base", [])
    if not isinstance(bases, list) or not all(isinstance(name, str) for name in bases):
        raise InputError(
            f"{document.origin(('base',))}: base: found {shown(bases)}, "
            "it should be a list of files, such as [retinanet.yaml]"
        )
    return bases


def read_file(path: Path) -> YamlDocument:
    """The document of one file; InputError where it cannot be read."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        near = nearest(path.name, (p.name for p in path.parent.glob("*.yaml")))
        raise InputError(f"{path}: there is no such file{near or shipped.HINT}") from None
    except OSError as error:
        raise InputError(f"{path}: this file cannot be read: {error.strerror}.") from None
    except UnicodeDecodeError:
        raise InputError(f"{path}: this is not a text file in UTF-8.") from None
    return document_of(text, str(path))


def document_of(text: str, source: str) -> YamlDocument:
    """The document of a text, a mapping; `source` names it in errors."""
    document = yaml_text.read(text, where=lambda line: f"{source}:{line}")
    if not isinstance(document.values, dict):
        found = "nothing" if document.values is None else shown(document.values)
        raise InputError(f"{source}:1: found {found}, a config is a mapping of keys to values.")
    return document


def _override(text: str, place: str) -> YamlDocument:
    """The document of one `a.b=value`."""
    key, equals, value = text.partition("=")
    if not equals:
        raise InputError(f"{place}: found {text!r}, it should be key=value, as optimizer.lr=1e-3")
    path = tuple(key.strip().split("."))
    document = yaml_text.read(value, where=lambda line: place)
    values = document.values
    for part in reversed(path):
        values = {part: values}
    origins: dict[KeyPath, str] = {path[:depth]: place for depth in range(len(path) + 1)}
    return YamlDocument(values, origins | {(*path, *inner): place for inner in document.origins})


def _merged(layers: Iterable[YamlDocument], *, by_kind: bool) -> YamlDocument:
    """Each layer over the one before; by_kind: as in `_replaces`."""
    return reduce(partial(_over, by_kind=by_kind), layers)


def _over(below: YamlDocument, above: YamlDocument, *, by_kind: bool) -> YamlDocument:
    """`above` over `below`; what `above` replaced leaves no origin."""
    values = _merge(below.values, above.values, (), by_kind=by_kind)
    origins = {path: place for path, place in below.origins.items() if _holds(values, path)}
    return YamlDocument(values, origins | above.origins)


def _holds(values: Any, path: KeyPath) -> bool:
    """Whether there is a value at the path."""
    for key in path:
        items = dict(enumerate(values)) if isinstance(values, list) else values
        if not isinstance(items, dict) or key not in items:
            return False
        values = items[key]
    return True


def _merge(below: Any, above: Any, path: KeyPath, *, by_kind: bool) -> Any:
    """`above` over `below`: mappings key by key unless one replaces the other, the rest whole."""
    if not isinstance(below, dict) or not isinstance(above, dict):
        return above
    if _replaces(below, above, path, by_kind=by_kind):
        return above
    merged = {
        key: _merge(below[key], value, (*path, key), by_kind=by_kind) if key in below else value
        for key, value in above.items()
    }
    return below | merged


def _replaces(
    below: dict[str, Any], above: dict[str, Any], path: KeyPath, *, by_kind: bool
) -> bool:
    """Whether `above` states another alternative than `below`; by_kind: or its kind, even again."""
    if path not in ALTERNATIVES:
        return False
    stated = ALTERNATIVES[path].stated
    again = by_kind and "kind" in above
    return again or len({stated(below), stated(above)} - {None}) > 1
