"""What an ablation compares: sums of its variants that are 0 where these do not differ."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace

from detector.settings.ablation import ContrastNames


@dataclass(frozen=True)
class Contrast:
    """A sum of variants, each with its coefficient, that is 0 where they do not differ."""

    name: str  # "a - b", or "(a - b) - (c - d)"
    coefficients: Mapping[str, int]  # by name of the variant, none of them 0; they add up to 0
    planned: bool = True  # declared before the first run was finished

    @classmethod
    def of(cls, names: ContrastNames) -> Contrast:
        """The first of a pair less the second; of two pairs the first less the second."""
        coefficients: Counter[str] = Counter()
        for sign, (first, second) in zip((1, -1), names, strict=False):
            coefficients[first] += sign
            coefficients[second] -= sign
        pairs = [f"{first} - {second}" for first, second in names]
        name = pairs[0] if len(pairs) == 1 else f"({pairs[0]}) - ({pairs[1]})"
        return cls(name, {name: n for name, n in coefficients.items() if n})

    def renamed(self, names: Mapping[str, str]) -> Contrast:
        """The same of other variants, under its own name."""
        coefficients: Counter[str] = Counter()
        for name, coefficient in self.coefficients.items():
            coefficients[names.get(name, name)] += coefficient
        return replace(self, coefficients={name: n for name, n in coefficients.items() if n})
