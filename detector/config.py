"""From YAML files and `--set` to one checked Config; its sections are in detector/settings.

A file names others under `base:`, relative to itself; they are merged in order, the file over
them, `--set` last. All errors are reported at once, each with its file and line.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import reduce
from pathlib import Path
from types import UnionType
from typing import Any, TypeVar, get_args, get_origin

from pydantic import ValidationError, model_validator
from pydantic_core import ErrorDetails

from detector import yaml_text
from detector.errors import InputError
from detector.settings import network, training
from detector.settings.data import RESIZES, DataSettings
from detector.settings.loss import SAMPLINGS, LossSettings
from detector.settings.section import Section
from detector.yaml_text import KeyPath, YamlDocument

S = TypeVar("S", bound=Section)


class Config(Section):
    """One experiment. Immutable; equal configs are equal objects."""

    data: DataSettings = DataSettings()
    model: network.ModelSettings = network.ModelSettings()
    anchors: network.AnchorsSettings = network.AnchorsSettings()
    matching: network.MatchingSettings = network.MatchingSettings()
    loss: LossSettings = LossSettings()
    optimizer: training.OptimizerSettings = training.OptimizerSettings()
    schedule: training.ScheduleSettings = training.ScheduleSettings()
    train: training.TrainSettings = training.TrainSettings()
    evaluation: training.EvaluationSettings = training.EvaluationSettings()
    postprocess: network.PostprocessSettings = network.PostprocessSettings()

    @model_validator(mode="after")
    def _check(self) -> Config:
        batch, parts = self.train.batch_size, self.optimizer.accumulate
        if batch % parts:
            raise ValueError(
                f"optimizer.accumulate is {parts}, it should divide train.batch_size, {batch}"
            )
        return self

    def to_yaml(self) -> str:
        """Every key with its value, as YAML that `parse` reads back to an equal Config."""
        return yaml_text.write(self.model_dump(mode="json"))


# pydantic puts these names into the location of an error, where the config has no key
ALTERNATIVES: dict[str, type[Section]] = {**RESIZES, **SAMPLINGS}
# where pydantic speaks of Python or of JSON
WORDS = {
    "model_type": "a mapping of keys to values, {} for none",
    "model_attributes_type": "a mapping of keys to values, {} for none",
    "dict_type": "a mapping, such as {key: value}",
    "tuple_type": "a list, such as [a, b]",
    "too_long": "a list of two",
    "path_type": "a file or folder",
    "string_type": "a text",
    "string_too_short": "a text of at least one letter",
    "json_invalid": "shallow, and its texts Unicode",
    "bool_type": "true or false",
    "int_type": "a whole number",
    "float_type": "a finite number",
    "finite_number": "a finite number",
}


def load(path: Path, overrides: Sequence[str] = (), places: Mapping[str, str] = {}) -> Config:
    """The config of a file, its bases and overrides such as "optimizer.lr=1e-3".

    places: where an override is written, for those that are not from `--set`.
    Raises InputError, one line an error: where, which key, what was found, what is allowed.
    """
    merged = _merged(_with_bases(Path(path), parents=()))
    if overrides:
        # among themselves first: the order of two of them must not matter to the rule of _form
        documents = [_override(text, places.get(text, f"--set {text}")) for text in overrides]
        merged = _merged([merged, _merged(documents)])
    return _validated(merged, Config)


def load_as(path: Path, kind: type[S]) -> tuple[S, YamlDocument]:
    """A file of another kind than a Config, and where all is in it; InputError as in `load`."""
    document = _read(path)
    return _validated(document, kind), document


def flat(config: Config) -> dict[str, Any]:
    """Its keys as `a.b.c`; alternatives with other keys count as one value."""
    return _flat(config.model_dump(mode="json"))


def _flat(tree: dict[str, Any], above: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in tree.items():
        nested = isinstance(value, dict) and key not in {"resize", "sampling"}
        found.update(_flat(value, f"{above}{key}.") if nested else {f"{above}{key}": value})
    return found


def parse(text: str, source: str) -> Config:
    """The config of a resolved text, as `Config.to_yaml` writes it; `source` names it in errors.

    Raises InputError as `load` does.
    """
    return _validated(_document(text, source), Config)


def _with_bases(path: Path, *, parents: tuple[Path, ...]) -> list[YamlDocument]:
    """The documents to merge for one file, lowest first."""
    chain = (*parents, path.resolve())
    if chain[-1] in parents:
        names = " -> ".join(step.name for step in chain)
        raise InputError(f"{path}: base: the files name each other in a circle: {names}.")
    document = _read(path)
    layers = []
    for base in (path.parent / name for name in _bases(document)):
        if not base.is_file():
            near = _nearest(base.name, (p.name for p in base.parent.glob("*.yaml")))
            raise InputError(f"{document.origin(('base',))}: base: there is no file {base}{near}")
        layers += _with_bases(base, parents=chain)
    values = {key: value for key, value in document.values.items() if key != "base"}
    return [*layers, YamlDocument(values, document.origins)]


def _bases(document: YamlDocument) -> list[str]:
    bases = document.values.get("base", [])
    if not isinstance(bases, list) or not all(isinstance(name, str) for name in bases):
        raise InputError(
            f"{document.origin(('base',))}: base: found {_shown(bases)}, "
            "it should be a list of files, such as [retinanet.yaml]"
        )
    return bases


def _read(path: Path) -> YamlDocument:
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        near = _nearest(path.name, (p.name for p in path.parent.glob("*.yaml")))
        raise InputError(f"{path}: there is no such file{near}") from None
    except OSError as error:
        raise InputError(f"{path}: this file cannot be read: {error.strerror}.") from None
    except UnicodeDecodeError:
        raise InputError(f"{path}: this is not a text file in UTF-8.") from None
    return _document(text, str(path))


def _document(text: str, source: str) -> YamlDocument:
    document = yaml_text.read(text, where=lambda line: f"{source}:{line}")
    if not isinstance(document.values, dict):
        found = "nothing" if document.values is None else _shown(document.values)
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


def _merged(layers: Iterable[YamlDocument]) -> YamlDocument:
    return reduce(
        lambda below, above: YamlDocument(
            _merge(below.values, above.values, ()), below.origins | above.origins
        ),
        layers,
    )


def _merge(below: Any, above: Any, path: KeyPath) -> Any:
    """`above` over `below`: mappings key by key, anything else whole."""
    if not isinstance(below, dict) or not isinstance(above, dict):
        return above
    forms = {_form(below, path), _form(above, path)} - {None}
    if len(forms) > 1:
        return above
    merged = {
        key: _merge(below[key], value, (*path, key)) if key in below else value
        for key, value in above.items()
    }
    return below | merged


def _form(mapping: dict[str, Any], path: KeyPath) -> Any:
    """Which of several alternatives a mapping states; another one replaces it whole."""
    if path == ("loss", "classification", "sampling"):
        return str(mapping.get("kind")) if "kind" in mapping else None
    if path == ("data", "resize"):
        forms = ({"width", "height"}, {"shorter", "longer"})
        return next((form for form, keys in enumerate(forms) if mapping.keys() & keys), None)
    return None


def _validated(document: YamlDocument, kind: type[S]) -> S:
    try:
        # as JSON, because in strict mode only that lets a list be a tuple and a text be a path
        return kind.model_validate_json(json.dumps(document.values))
    except ValidationError as error:
        lines = [_line(details, document, kind) for details in error.errors(include_url=False)]
        raise InputError("\n".join(lines)) from None


def _line(error: ErrorDetails, document: YamlDocument, kind: type[Section]) -> str:
    path, section = _located(error["loc"], kind)
    while path and isinstance(path[-1], int) and path not in document.origins:
        path = path[:-1]  # a single value that stands for a list of one
    if error["type"].startswith("union_tag"):
        path = (*path, "kind")
    key = ".".join(map(str, path))
    return f"{document.origin(path)}: {key + ': ' if key else ''}{_problem(error, section)}"


def _located(loc: KeyPath, root: type[Section]) -> tuple[KeyPath, type[Section] | None]:
    """The key path of an error's location, and the section that holds its last key."""
    path: list[str | int] = []
    section: type[Section] | None = root
    holder, named = section, None  # `named`: what a mapping from names holds
    for part in loc:
        if section is None and part in ALTERNATIVES:
            section = ALTERNATIVES[str(part)]
            continue
        path.append(part)
        if named is not None:
            section, named = named, None
            continue
        holder = section
        field = None if section is None else section.model_fields.get(str(part))
        kind = None if field is None else _without_none(field.annotation)
        values = get_args(kind)[1] if get_origin(kind) is dict else None
        named = values if isinstance(values, type) and issubclass(values, Section) else None
        section = kind if isinstance(kind, type) and issubclass(kind, Section) else None
    return tuple(path), holder


def _without_none(kind: Any) -> Any:
    """X of `X | None`; anything else as it is."""
    kinds = [one for one in get_args(kind) if one is not type(None)]
    return kinds[0] if get_origin(kind) is UnionType and len(kinds) == 1 else kind


def _problem(error: ErrorDetails, section: type[Section] | None) -> str:
    """What was found, what is allowed, and the nearest allowed thing."""
    context, found = error.get("ctx", {}), error["input"]
    match error["type"]:
        case "extra_forbidden":
            key, known = str(error["loc"][-1]), list(section.model_fields) if section else []
            return f"unknown key {key!r}{_nearest(key, known) or '; known: ' + ', '.join(known)}"
        case "missing" | "union_tag_not_found":
            return "missing, it must be given"
        case "value_error":
            return error["msg"].removeprefix("Value error, ")
        case "union_tag_invalid":
            found, allowed = context["tag"], context["expected_tags"]
        case "literal_error":
            allowed = context["expected"]
        case kind:
            allowed = WORDS.get(kind) or error["msg"].removeprefix("Input should be ")
    near = _nearest(str(found), re.findall(r"'(.*?)'", allowed))
    return f"found {_shown(found)}, it should be {allowed}{near}"


def _nearest(word: str, known: Iterable[str]) -> str:
    """ "; did you mean 'x'?", or nothing where no known word is near."""
    near = difflib.get_close_matches(word, list(known), n=1)
    return f"; did you mean {near[0]!r}?" if near else ""


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else text[:57] + "..."
