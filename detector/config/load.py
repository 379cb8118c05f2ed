"""From YAML files and `--set` to one checked Config.

A file names others under `base:`, relative to itself or shipped (detector/shipped.py); they are
merged in order, the file over them, `--set` last. All errors are reported at once, each with its
file and line.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from detector import shipped
from detector.config.merging import document_of, merged, read_file
from detector.config.messages import line
from detector.config.schema import Config
from detector.errors import InputError
from detector.loss.assemble import CLASSIFICATION_LOSSES
from detector.settings.section import Section
from detector.yaml_text import YamlDocument

S = TypeVar("S", bound=Section)


def load(path: Path, overrides: Sequence[str] = (), places: Mapping[str, str] = {}) -> Config:
    """The config of a file, its bases and overrides such as "optimizer.lr=1e-3".

    places: where an override is written, for those that are not from `--set`.
    Raises InputError, one line an error: where, which key, what was found, what is allowed.
    """
    return _config(merged(shipped.resolve(Path(path)), overrides, places))


def load_as(path: Path, kind: type[S]) -> tuple[S, YamlDocument]:
    """A file of another kind than a Config, and where all is in it; InputError as in `load`."""
    document = read_file(path)
    return _validated(document, kind), document


def flat(config: Config) -> dict[str, Any]:
    """Its keys as `a.b.c`; resize and sampling, whose kinds share no key, count as one value."""
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
    return _config(document_of(text, source))


def _with_kind(old: dict[str, Any]) -> dict[str, Any]:
    """The classification loss of a run's config as it is written now; another one as it is.

    Before 2026-12 a run's config had the keys of all kinds.
    """
    if not old.keys() >= {"leaf", "poly", "ghm"} or not isinstance(old["ghm"], dict):
        return old
    kind = old["leaf"] if old["poly"] is None else "poly"
    settings = CLASSIFICATION_LOSSES.kinds.get(kind)
    if settings is None:
        return old
    renamed = {**old, **old["ghm"], "kind": kind, "epsilon": old["poly"]}
    return {key: value for key, value in renamed.items() if key in settings.model_fields}


def _as_list(old: dict[str, Any]) -> Any:
    """The augmentations of a run's config as they are written now; another mapping as it is.

    Before 2026-12 they were a mapping, and a run's config had all of its three keys. With fewer it
    may stand over a list of a base, whose rest it would drop; that mapping is refused.
    """
    if old.keys() != {"flip", "scale_jitter", "photometric"}:
        return old
    items = [
        {"kind": "scale_jitter", "range": old["scale_jitter"]},
        {"kind": "flip", "probability": old["flip"]},
        {"kind": "photometric", "strength": old["photometric"]},
    ]
    off = {"flip": 0, "scale_jitter": None, "photometric": 0}
    return [one for one in items if old[one["kind"]] != off[one["kind"]]]


RENEWED = {("loss", "classification"): _with_kind, ("data", "augment"): _as_list}


def _config(document: YamlDocument) -> Config:
    for (section, key), renewed in RENEWED.items():
        held = document.values.get(section)
        if isinstance(held, dict) and isinstance(held.get(key), dict):
            held[key] = renewed(held[key])
    return _validated(document, Config)


def _validated(document: YamlDocument, kind: type[S]) -> S:
    try:
        # as JSON, because in strict mode only that lets a list be a tuple and a text be a path
        return kind.model_validate_json(json.dumps(document.values))
    except ValidationError as error:
        errors = error.errors(include_url=False)
        raise InputError(
            "\n".join(dict.fromkeys(line(one, document, kind) for one in errors))
        ) from None
