"""Image shape -> anchors.

L levels, A anchors of one image over all levels, M anchors per cell. A cell is a position of a
level's feature map.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Annotated, Any

import torch
from pydantic import (
    GetCoreSchemaHandler,
    SerializationInfo,
    ValidationInfo,
    model_validator,
)
from pydantic_core import CoreSchema, core_schema
from torch import Tensor

from detector.settings.section import Fraction, NotEmpty, Pair, Positive, Section, item

AUTO = "auto"  # in place of the settings: numbers that fit the training boxes


def cell_shapes(
    sizes: Sequence[float], scales: Sequence[float], ratios: Sequence[float]
) -> list[list[tuple[float, float]]]:
    """Width and height in pixels of the M = R*S anchors per cell, for every level.

    A size is the square root of the area at scale 1; a ratio is height / width (Ren et al. 2015,
    section 3.1). The outer order is by ratio, the inner by scale, as in torchvision: a published
    checkpoint has its channels in this order.
    """
    return [
        [(size * s / math.sqrt(r), size * s * math.sqrt(r)) for r in ratios for s in scales]
        for size in sizes
    ]


MOST_SHAPES = 256  # image shapes in the cache; 3 MB each at 800 pixels
LEAST_SIDE, MOST_SIDE = 1e-3, 1e6  # pixels; beyond, areas and their ratios leave float32


class AnchorGenerator:
    """Anchors at exact strides, computed once for each image shape and device.

    strides: for each level, pixels from one cell to the next, as the model declares them.
        torchvision infers them from the maps' sizes, which is inexact where these are rounded.
    cells: for each level, (width, height) in pixels of the M anchors of a cell.
    offset: where in its cell an anchor is centred: 0.5 the middle, 0 the upper left corner.

    Raises InputError for lists that do not match, and for unusable anchor sizes.
    """

    def __init__(
        self,
        strides: Sequence[int],
        cells: Sequence[Sequence[tuple[float, float]]],
        offset: float = 0.5,
    ) -> None:
        if len(strides) != len(cells):
            raise ValueError(
                f"there are anchors of {len(cells)} levels, and the model has {len(strides)} "
                f"(strides {list(strides)}); give one entry a level."
            )
        if len({len(level) for level in cells}) != 1:
            raise ValueError(
                f"the levels have {[len(level) for level in cells]} anchors a cell; expected as "
                "many in every level, for the heads are shared."
            )
        shapes = [shape for level in cells for shape in level]
        wrong = [s for s in shapes if not LEAST_SIDE <= min(s) <= max(s) <= MOST_SIDE]
        if wrong:
            raise ValueError(
                f"one anchor has {wrong[0][0]:g} x {wrong[0][1]:g} pixels (width x height); "
                f"expected sides of {LEAST_SIDE:g} to {MOST_SIDE:g}."
            )
        self.strides = tuple(strides)
        self.cells = [torch.tensor(level, dtype=torch.float32) for level in cells]
        self.offset = offset
        self._made: dict[tuple[int, int, torch.device], Tensor] = {}

    @property
    def anchors_per_cell(self) -> int:
        """M, the same on every level."""
        return len(self.cells[0])

    def level_lengths(self, height: int, width: int) -> list[int]:
        """Anchors on each level for images of height x width; a map is ceil(side / stride) wide."""
        return [math.prod(shape) * self.anchors_per_cell for shape in self._maps(height, width)]

    def __call__(self, height: int, width: int, device: torch.device | str = "cpu") -> Tensor:
        """float32 (A, 4) x1 y1 x2 y2 in pixels, ordered by level, row, column, anchor of the cell.

        The tensor is shared between calls: do not modify it.
        """
        key = (height, width, torch.device(device))
        if key not in self._made:
            if len(self._made) == MOST_SHAPES:
                self._made.clear()
            self._made[key] = self._make(height, width, key[2])
        return self._made[key]

    # validation may make them first, and training cannot differentiate with inference tensors
    @torch.inference_mode(mode=False)
    def _make(self, height: int, width: int, device: torch.device) -> Tensor:
        levels = zip(self._maps(height, width), self.strides, self.cells, strict=True)
        return torch.cat([self._level(*level) for level in levels]).to(device)

    def _maps(self, height: int, width: int) -> list[tuple[int, int]]:
        return [(math.ceil(height / s), math.ceil(width / s)) for s in self.strides]

    def _level(self, shape: tuple[int, int], stride: int, cell: Tensor) -> Tensor:
        y, x = ((torch.arange(n, dtype=torch.float32) + self.offset) * stride for n in shape)
        rows, columns = torch.meshgrid(y, x, indexing="ij")
        centres = torch.stack([columns, rows], dim=-1).reshape(-1, 1, 2)
        return torch.cat([centres - cell / 2, centres + cell / 2], dim=-1).reshape(-1, 4)


class AnchorsSettings(Section):
    sizes: Annotated[tuple[Positive, ...], NotEmpty] = item(
        (32.0, 64.0, 128.0, 256.0, 512.0), "one a level, P3 to P7: square root of area in pixels"
    )
    scales: Annotated[tuple[Positive, ...], NotEmpty] = item(
        (1.0, 1.26, 1.587), "factors of the size at every position"
    )
    ratios: Annotated[tuple[Positive, ...], NotEmpty] = item((0.5, 1.0, 2.0), "height / width")
    offset: Fraction = item(0.5, "centre of the first anchor in strides; 0.5: middle of its cell")
    cells: Annotated[tuple[tuple[Pair, ...], ...], NotEmpty] | None = item(
        None, "explicit [[[w, h], ...], ...] a level; then sizes, scales and ratios are unused"
    )

    @model_validator(mode="after")
    def _check(self) -> AnchorsSettings:
        counts = [len(level) for level in self.cells or ()]
        if counts and (min(counts) == 0 or min(counts) != max(counts)):
            raise ValueError(f"cells has {counts} a level, it should be equally many, at least 1")
        return self

    def generator(self, strides: Sequence[int]) -> AnchorGenerator:
        """Of a model whose levels have these strides; ValueError where they do not match."""
        cells = self.cells or cell_shapes(self.sizes, self.scales, self.ratios)
        return AnchorGenerator(strides, cells, self.offset)


class OrAuto:
    """Annotates a key that holds AnchorsSettings or AUTO.

    A plain union would name its alternatives in the paths of errors, where no key is so called.
    """

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        return core_schema.with_info_plain_validator_function(
            self._validated,
            serialization=core_schema.plain_serializer_function_ser_schema(
                self._serialized, info_arg=True
            ),
        )

    @staticmethod
    def _validated(value: Any, info: ValidationInfo) -> Any:
        if value == AUTO or isinstance(value, AnchorsSettings):
            return value
        if not isinstance(value, dict):
            raise ValueError(f"found {json.dumps(value)}, it should be auto, or a mapping of keys")
        if info.mode == "json":  # there, lists are tuples
            return AnchorsSettings.model_validate_json(json.dumps(value))
        return AnchorsSettings.model_validate(value)

    @staticmethod
    def _serialized(value: Any, info: SerializationInfo) -> Any:
        return value if value == AUTO else value.model_dump(mode=info.mode)
