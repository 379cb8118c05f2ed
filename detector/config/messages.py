"""One line for each thing that is wrong in a config: where, what is there, what is allowed."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterable
from types import UnionType
from typing import Any, get_args, get_origin

from pydantic_core import ErrorDetails

from detector.settings.data import RESIZES
from detector.settings.loss import SAMPLINGS
from detector.settings.network import MATCHINGS
from detector.settings.section import Section
from detector.yaml_text import KeyPath, YamlDocument

# pydantic puts these names into the location of an error, where the config has no key
ALTERNATIVES: dict[str, type[Section]] = {**RESIZES, **SAMPLINGS, **MATCHINGS}
# of older configs
RENAMED = {
    "leaf": "; it is named kind now: {kind: ghm}",
    "poly": "; it is a kind of its own now: {kind: poly, epsilon: 1}",
    "ghm": "; its keys stand beside the kind now: {kind: ghm, bins: 30}",
}
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


def line(error: ErrorDetails, document: YamlDocument, kind: type[Section], at: KeyPath) -> str:
    """Where, which key, what was found and what is allowed; `kind` stands at the path `at`."""
    path, section = _located(error["loc"], kind)
    path = (*at, *path)
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
            near = RENAMED.get(key) or nearest(key, known) or "; known: " + ", ".join(known)
            return f"unknown key {key!r}{near}"
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
    near = nearest(str(found), re.findall(r"'(.*?)'", allowed))
    return f"found {shown(found)}, it should be {allowed}{near}"


def nearest(word: str, known: Iterable[str]) -> str:
    """ "; did you mean 'x'?", or nothing where no known word is near."""
    near = difflib.get_close_matches(word, list(known), n=1)
    return f"; did you mean {near[0]!r}?" if near else ""


def shown(value: Any) -> str:
    """The value as JSON, cut to 60 characters."""
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else text[:57] + "..."
