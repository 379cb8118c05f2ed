"""From YAML files and `--set` to one checked Config.

A file names others under `base:`, relative to itself or shipped (detector/shipped.py); they are
merged in order, the file over them, `--set` last. All errors are reported at once, each with its
file and line (an unknown kind of loss alone: it says which keys there are).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from detector import shipped
from detector.config.merging import CLASSIFICATION, document_of, merged, read_file
from detector.config.messages import line, nearest
from detector.config.schema import Config
from detector.errors import InputError
from detector.loss.assemble import KINDS, settings_of
from detector.model.backbones import check_name
from detector.settings.section import Section
from detector.yaml_text import KeyPath, YamlDocument

S = TypeVar("S", bound=Section)
BACKBONE = ("model", "backbone", "name")


def load(path: Path, overrides: Sequence[str] = (), places: Mapping[str, str] = {}) -> Config:
    """The config of a file, its bases and overrides such as "optimizer.lr=1e-3".

    places: where an override is written, for those that are not from `--set`.
    Raises InputError, one line an error: where, which key, what was found, what is allowed.
    """
    return _with_backbone(merged(shipped.resolve(Path(path)), overrides, places))


def load_as(path: Path, kind: type[S]) -> tuple[S, YamlDocument]:
    """A file of another kind than a Config, and where all is in it; InputError as in `load`."""
    document = read_file(path)
    return _validated(document, kind), document


def flat(config: Config) -> dict[str, Any]:
    """Its keys as `a.b.c`; alternatives with other keys count as one value."""
    return _flat(config.model_dump(mode="json"))


def _flat(tree: dict[str, Any], above: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in tree.items():
        nested = isinstance(value, dict) and value and key not in {"resize", "sampling"}
        found.update(_flat(value, f"{above}{key}.") if nested else {f"{above}{key}": value})
    return found


def parse(text: str, source: str) -> Config:
    """The config of a resolved text, as `Config.to_yaml` writes it; `source` names it in errors.

    Raises InputError as `load` does.
    """
    return _with_backbone(document_of(text, source))


def _with_kind(old: dict[str, Any]) -> dict[str, Any]:
    """The classification loss of a run's config as it is written now; another one as it is.

    Before 2026-12 a run's config had the keys of all kinds.
    """
    if not old.keys() >= {"leaf", "poly", "ghm"} or not isinstance(old["ghm"], dict):
        return old
    kind = old["leaf"] if old["poly"] is None else "poly"
    if kind not in KINDS:
        return old
    renamed = {**old, **old["ghm"], "kind": kind, "epsilon": old["poly"]}
    return {key: value for key, value in renamed.items() if key in KINDS[kind].model_fields}


def _with_backbone(document: YamlDocument) -> Config:
    """The config, with a backbone that there is: settings/ cannot know the table of model/."""
    config = _config(document)
    try:
        check_name(config.model.backbone.name)
    except ValueError as error:
        place = document.origin(BACKBONE)
        raise InputError(f"{place}: {'.'.join(BACKBONE)}: {error}") from None
    return config


def _config(document: YamlDocument) -> Config:
    """The classification loss is checked apart: its kind, which may be a user's own, says how."""
    loss = document.values.get("loss")
    values = loss.get("classification") if isinstance(loss, dict) else None
    if not isinstance(values, dict):
        return _validated(document, Config)
    values = _with_kind(values)
    kind = values.get("kind", "focal")
    try:
        settings = settings_of(kind)
    except ValueError as error:
        where = document.origin((*CLASSIFICATION, "kind"))
        near = nearest(str(kind), KINDS)
        raise InputError(f"{where}: loss.classification.kind: {error}{near}") from None
    others = {key: value for key, value in loss.items() if key != "classification"}
    rest = YamlDocument({**document.values, "loss": others}, document.origins)
    config, lines = _checked(rest, Config)
    own, more = _checked(YamlDocument(values, document.origins), settings, CLASSIFICATION)
    if config is None or own is None:
        raise InputError("\n".join([*more, *lines]))
    whole = config.loss.model_copy(update={"classification": own})
    return config.model_copy(update={"loss": whole})


def _validated(document: YamlDocument, kind: type[S]) -> S:
    section, lines = _checked(document, kind)
    if section is None:
        raise InputError("\n".join(lines))
    return section


def _checked(document: YamlDocument, kind: type[S], at: KeyPath = ()) -> tuple[S | None, list[str]]:
    """The section whose values, at key path `at` of the files, a document holds; or its errors."""
    try:
        # as JSON, because in strict mode only that lets a list be a tuple and a text be a path
        return kind.model_validate_json(json.dumps(document.values)), []
    except ValidationError as error:
        errors = error.errors(include_url=False)
        return None, [line(details, document, kind, at) for details in errors]
