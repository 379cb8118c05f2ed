"""One line for each thing that is wrong in a config: where, what is there, what is allowed."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterable, Sequence
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic_core import ErrorDetails

from detector import shipped
from detector.settings.one_of import OneOf
from detector.settings.section import Section, is_section
from detector.yaml_text import KeyPath, YamlDocument

# of older configs
RENAMED = {
    "leaf": "; it is named kind now: {kind: ghm}",
    "poly": "; it is a kind of its own now: {kind: poly, epsilon: 1}",
    "ghm": "; its keys stand beside the kind now: {kind: ghm, bins: 30}",
}
# losses that people look for among the kinds, and that are values of one
CROSS_ENTROPY = "; cross-entropy is {kind: focal, gamma: 0, alpha: null}"
VALUES_OF_FOCAL = dict.fromkeys(["cross_entropy", "crossentropy", "ce", "bce"], CROSS_ENTROPY)
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


def line(error: ErrorDetails, document: YamlDocument, root: type[Section]) -> str:
    """Where, which key, what was found and what is allowed; `root` is what the document holds."""
    path, section = error["loc"], _section(root, error["loc"], document.values)
    while path and isinstance(path[-1], int) and path not in document.origins:
        path = path[:-1]  # a single value that stands for a list of one
    if error["type"] == "kind":
        path = (*path, "kind")
    key = ".".join(map(str, path))
    return f"{document.origin(path)}: {key + ': ' if key else ''}{_problem(error, section)}"


def _section(root: type[Section], path: KeyPath, values: Any) -> type[Section] | None:
    """The section that holds the last key of a path in the values of a document."""
    holder: Any = root
    for key in path[:-1]:
        values = dict(enumerate(values) if isinstance(values, list) else values).get(key)
        holder = _held(holder, key, values)
    return holder if is_section(holder) else None


def _held(holder: Any, key: str | int, values: Any) -> Any:
    """The type of what stands under a key of a section, or is an item of a list or a mapping."""
    metadata: Sequence[Any] = ()
    if is_section(holder):
        field = holder.model_fields.get(str(key))
        kind, metadata = (None, ()) if field is None else (field.annotation, field.metadata)
    else:
        items = [one for one in get_args(holder) if one is not Ellipsis]
        kind = items[-1] if get_origin(holder) in {dict, tuple} else None
        if get_origin(kind) is Annotated:
            kind, *metadata = get_args(kind)
    one_of = OneOf.among(metadata)
    if one_of is not None and isinstance(values, dict):
        return one_of.settings_of(values)
    if get_origin(kind) not in (UnionType, Union):
        return kind
    kinds = [one for one in get_args(kind) if one is not type(None)]
    return next(filter(is_section, kinds), kinds[0] if len(kinds) == 1 else kind)


def _problem(error: ErrorDetails, section: type[Section] | None) -> str:
    """What was found, what is allowed, and the nearest allowed thing."""
    context, found = error.get("ctx", {}), error["input"]
    match error["type"]:
        case "extra_forbidden":
            key, known = str(error["loc"][-1]), list(section.model_fields) if section else []
            near = RENAMED.get(key) or nearest(key, known) or "; known: " + ", ".join(known)
            return f"unknown key {key!r}{near}"
        case "missing" if isinstance(error["loc"][-1], int):
            return f"found {shown(found)}, it should be {WORDS['too_long']}"
        case "missing":
            return "missing, it must be given"
        case "kind":
            return error["msg"] + _near_kind(str(found.get("kind")), context["known"])
        case "value_error":
            return error["msg"].removeprefix("Value error, ")
        case "literal_error":
            allowed = context["expected"]
        case kind:
            allowed = WORDS.get(kind) or error["msg"].removeprefix("Input should be ")
    near = nearest(str(found), re.findall(r"'(.*?)'", allowed))
    null = _or_null(section, error["loc"])
    loss = _loss_file(error["loc"], found)
    return f"found {shown(found)}, it should be {allowed}{null}{near}{loss}"


def _loss_file(path: KeyPath, found: Any) -> str:
    """Which file to use where the name of a loss stands for its section; nothing elsewhere."""
    if path not in {("loss",), ("loss", "classification")} or not isinstance(found, str):
        return ""
    known = [file.stem for file in (shipped.folder() / "losses").glob("*.yaml")]
    near = difflib.get_close_matches(found, known, n=1)
    file = f"configs/losses/{near[0]}.yaml" if near else "one of configs/losses/"
    return f"; to choose a loss, name {file} in base: of your config"


def _or_null(section: type[Section] | None, path: KeyPath) -> str:
    """ ", or null" where the last key of a path, one of the section, may be null."""
    field = section.model_fields.get(str(path[-1])) if section and path else None
    return ", or null" if field and type(None) in get_args(field.annotation) else ""


def _near_kind(word: str, known: Sequence[str]) -> str:
    """As `nearest`; also for a loss that is no kind, because it is a kind with certain values."""
    meant = VALUES_OF_FOCAL.get(word.lower().replace("-", "_")) if "focal" in known else None
    return meant or nearest(word, known)


def nearest(word: str, known: Iterable[str]) -> str:
    """ "; did you mean 'x'?", or nothing where no known word is near."""
    near = difflib.get_close_matches(word, list(known), n=1)
    return f"; did you mean {near[0]!r}?" if near else ""


def shown(value: Any) -> str:
    """The value as JSON, cut to 60 characters."""
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else text[:57] + "..."
