"""Each variant of an ablation against its baseline over resampled images, one seed at a time."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from detector.commands.compare import diagnosed_run
from detector.lab.bootstrap import paired_bootstrap

RESAMPLES = 1000


def bootstraps(directories: Mapping[tuple[str, int], Path], baseline: str) -> list[dict[str, Any]]:
    """Comparisons in AP by variant and seed: what one seed's difference owes to the images.

    directories: of the runs that are finished and diagnosed, by variant and seed. A validation set
    of one image or without boxes has no comparison.
    """
    found = []
    for seed in sorted({seed for variant, seed in directories if variant == baseline}):
        first = diagnosed_run(directories[baseline, seed])
        base = first.matches()
        if len(first.image_ids) < 2 or not len(base.truth_images):
            return []
        for variant, other in directories:
            if variant == baseline or other != seed:
                continue
            own = diagnosed_run(directories[variant, seed]).matches()
            compared = paired_bootstrap(base, own, resamples=RESAMPLES)
            found.append(
                {
                    "variant": variant,
                    "seed": seed,
                    "difference": compared.difference,
                    "interval": list(compared.interval),
                    "p": compared.p,
                }
            )
    return found
