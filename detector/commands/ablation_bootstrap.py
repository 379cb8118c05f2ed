"""Each variant of an ablation against its baseline over resampled images, one seed at a time."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from detector.cli.compare import check_same_truth, diagnosed_run
from detector.errors import InputError
from detector.lab.bootstrap import paired_draws, resample
from detector.lab.results import SeedBootstrap

RESAMPLES = 1000  # each end of a 95 % interval then rests on 25 of them


def bootstraps(
    directories: Mapping[tuple[str, int], Path], baseline: str, say: Callable[[str], None]
) -> list[SeedBootstrap]:
    """Comparisons in AP by variant and seed: what one seed's difference owes to the images.

    directories: of the runs that are finished and diagnosed, by variant and seed. A validation set
    of one image or without boxes has no comparison. One of runs with other images, classes or boxes
    is left out, and `say` gets the reason.
    """
    compared = []
    for seed in sorted({seed for variant, seed in directories if variant == baseline}):
        first = diagnosed_run(directories[baseline, seed])
        matches = first.matches()
        if len(first.image_ids) < 2 or not len(matches.truth_images):
            continue
        # once a seed, not once a pair: the resamples of one seed draw the same images in every run
        base = resample(matches, resamples=RESAMPLES)
        for variant in [name for name, of in directories if name != baseline and of == seed]:
            second = diagnosed_run(directories[variant, seed])
            try:
                check_same_truth(first, second)
            except InputError as error:
                say(f"no bootstrap of {variant}, seed {seed}: {error}")
                continue
            pair = paired_draws(base, resample(second.matches(), resamples=RESAMPLES))
            compared.append(
                SeedBootstrap(variant, seed, pair.difference, pair.interval, pair.p, pair.lacking)
            )
    return compared
