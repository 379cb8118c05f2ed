"""Reading and writing YAML 1.2, with the line of each value.

PyYAML alone reads YAML 1.1: `1e-3` is text, `no` is false, and of two equal keys the last wins.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import yaml

from detector.errors import InputError

KeyPath = tuple[str | int, ...]

TAG = "tag:yaml.org,2002:"
# YAML 1.2 core schema, section 10.3.2, without octal, hexadecimal, infinity and not-a-number
PLAIN: dict[Any, Any] = {
    None: [
        (TAG + "null", re.compile(r"(~|null|Null|NULL|)\Z")),
        (TAG + "bool", re.compile(r"(true|True|TRUE|false|False|FALSE)\Z")),
        (TAG + "int", re.compile(r"[-+]?[0-9]+\Z")),
        (
            TAG + "float",
            re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?\Z"),
        ),
    ]
}
VALUES: dict[str, Callable[[str], Any]] = {
    TAG + "null": lambda text: None,
    TAG + "bool": lambda text: text.lower() == "true",
    TAG + "int": int,
    TAG + "float": float,
    TAG + "str": str,
}


@dataclass(frozen=True)
class YamlDocument:
    """The values of a YAML text, and where each was written."""

    values: Any
    origins: dict[KeyPath, str]  # path of a key -> its position, as "file.yaml:7"

    def origin(self, path: KeyPath) -> str:
        """Where `path` was written, or else the innermost mapping around it."""
        while path not in self.origins:
            path = path[:-1]
        return self.origins[path]


def read(text: str, *, where: Callable[[int], str]) -> YamlDocument:
    """The single document of `text`; `where` gives the name of a line, counted from 1.

    Raises InputError for invalid YAML, and for repeated keys, aliases and tags.
    """
    builder = _Builder(where)
    try:
        node = yaml.compose(text, Loader=_Loader)
        return YamlDocument(None if node is None else builder.build(node, ()), builder.origins)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = where(1 if mark is None else mark.line + 1)
        raise InputError(f"{line}: this is not valid YAML: {error.problem}.") from None
    except (yaml.YAMLError, RecursionError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"{where(1)}: this is not valid YAML: {reason}.") from None


def write(values: Any) -> str:
    """YAML in block style, with the innermost collections on one line; `read` undoes it."""
    return yaml.dump(
        values,
        Dumper=_Dumper,
        sort_keys=False,
        default_flow_style=None,
        allow_unicode=True,
        width=100,
    )


class _Loader(yaml.SafeLoader):
    yaml_implicit_resolvers = PLAIN

    def compose_node(self, parent: Any, index: Any) -> Any:
        # an alias may contain itself, or expand a few lines to gigabytes
        if self.check_event(yaml.AliasEvent):
            mark = self.peek_event().start_mark
            raise yaml.MarkedYAMLError(problem="aliases (*name) are not allowed", problem_mark=mark)
        return super().compose_node(parent, index)


class _Dumper(yaml.SafeDumper):
    yaml_implicit_resolvers = PLAIN  # so that text that reads as a number is written in quotes

    def ignore_aliases(self, data: Any) -> bool:
        return True


class _Builder:
    def __init__(self, where: Callable[[int], str]) -> None:
        self.where = where
        self.origins: dict[KeyPath, str] = {}

    def build(self, node: yaml.Node, path: KeyPath) -> Any:
        self.origins.setdefault(path, self._position(node))
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path)
        if isinstance(node, yaml.SequenceNode):
            return [self.build(item, (*path, i)) for i, item in enumerate(node.value)]
        return self._scalar(node)

    def _mapping(self, node: yaml.MappingNode, path: KeyPath) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key, position = key_node.value, self._position(key_node)
            if not isinstance(key, str):
                raise InputError(f"{position}: a key must be a word.")
            inner = (*path, key)
            if key in values:
                dotted = ".".join(map(str, inner))
                first = self.origins[inner]
                raise InputError(f"{position}: {dotted}: given twice, first at {first}; keep one.")
            self.origins[inner] = position
            values[key] = self.build(value_node, inner)
        return values

    def _scalar(self, node: yaml.Node) -> Any:
        try:
            return VALUES[node.tag](node.value)
        except (KeyError, ValueError):
            raise InputError(
                f"{self._position(node)}: {node.value[:60]!r} cannot be read as {node.tag!r}; "
                "a value is null, true, false, a number, a text, a list or a mapping."
            ) from None

    def _position(self, node: yaml.Node) -> str:
        return self.where(node.start_mark.line + 1)
