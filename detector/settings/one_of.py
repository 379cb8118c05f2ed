"""A section of which there are several kinds, each with keys and a settings class of its own."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import GetCoreSchemaHandler, ValidationInfo
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from detector.imported import imported
from detector.settings.section import Section

Values = Mapping[str, Any]


def by_kind(values: Values) -> str | None:
    """The kind that a mapping states under the key `kind`."""
    if "kind" not in values:
        return None
    kind = values["kind"]
    return kind if isinstance(kind, str) else json.dumps(kind)


@dataclass(frozen=True, eq=False)
class OneOf:
    """The kinds of a section; annotates its key: `Annotated[SerializeAsAny[Base], OneOf(...)]`.

    base: what the settings class of each kind derives from; those of users, too, whose kind is
        "module:Class".
    kinds: settings classes by the names of the kinds.
    default: the kind of a mapping that states none; None: it must state one.
    stated: the kind that a mapping states, or None.
    function: the settings class of a function without keys, whose kind is "module:function";
        None: there are no such kinds.
    """

    base: type[Section]
    kinds: Mapping[str, type[Section]]
    default: str | None
    stated: Callable[[Values], str | None] = by_kind
    function: type[Section] | None = None

    @staticmethod
    def among(metadata: Iterable[Any]) -> OneOf | None:
        """The one among what annotates a key, if its section has several kinds."""
        return next((data for data in metadata if isinstance(data, OneOf)), None)

    def settings_of(self, values: Values) -> type[Section]:
        """The settings class for a mapping.

        Raises:
            ValueError: there is no such kind, or its class cannot be used.
        """
        kind = self.stated(values) or self.default
        if kind is None:
            raise ValueError(f"missing, it should be {self.choices}")
        if kind in self.kinds:
            return self.kinds[kind]
        if ":" not in kind:
            raise ValueError(f"found {kind!r}, it should be {self.choices}")
        return self._own(kind)

    @property
    def choices(self) -> str:
        """What `kind` may be, as text."""
        own = ["module:function"] if self.function is not None else []
        choices = [*self.kinds, "module:Class", *own]
        return f"{', '.join(choices[:-1])}, or {choices[-1]}"

    def _own(self, kind: str) -> type[Section]:
        settings = imported(kind)
        if self.function is not None and callable(settings) and not isinstance(settings, type):
            return self.function
        if not (isinstance(settings, type) and issubclass(settings, self.base)):
            raise ValueError(f"found {kind!r}, it should be a subclass of {self.base.__name__}")
        if inspect.isabstract(settings):
            methods = ", ".join(f"{name}()" for name in sorted(settings.__abstractmethods__))
            raise ValueError(f"found {kind!r}, which lacks {methods}")
        return settings

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        return core_schema.with_info_wrap_validator_function(self._validated, handler(source))

    def _validated(
        self, value: Any, handler: Callable[[Any], Section], info: ValidationInfo
    ) -> Section:
        if not isinstance(value, dict):
            return handler(value)  # an instance of the base, or an error that asks for a mapping
        try:
            settings = self.settings_of(value)
        except ValueError as error:
            context = {"text": str(error), "known": [*self.kinds]}
            raise PydanticCustomError("kind", "{text}", context) from None
        if info.mode == "json":  # there, lists are tuples and texts are paths
            return settings.model_validate_json(json.dumps(value))
        return settings.model_validate(value)
