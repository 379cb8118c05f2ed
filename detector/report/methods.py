"""How an ablation was made and tested, in sentences for a paper: from its data alone."""

from __future__ import annotations

from collections.abc import Iterable

from detector.lab.results import Tuning
from detector.report.comparisons import (
    amended,
    correlation,
    diverging,
    flatness,
    pairing,
    replicate_data,
    untested,
)
from detector.report.folder import AblationFolder
from detector.report.numbers import counted, yaml_value
from detector.report.tables import environment
from detector.settings.figures import worst_value

VERSIONS = ("detector", "git", "python", "torch", "torchvision", "gpus")  # of environment.json


def methods(ablation: AblationFolder) -> str:
    """Markdown: design, replicates, tests, correction, margin, failures, amendments, versions."""
    paragraphs = (
        _design(ablation),
        _tests(ablation),
        _runs(ablation),
        (sentence for one in ablation.amendments for sentence in _amendment(amended(one))),
        _versions(ablation),
    )
    texts = [" ".join(filter(None, sentences)) for sentences in paragraphs]
    return "\n\n".join(filter(None, texts)) + "\n"


def _design(ablation: AblationFolder) -> Iterable[str]:
    names = [v.name for v in ablation.variants]
    of = f" of {ablation.config}" if ablation.config else ""
    yield (
        f"{len(names)} variants{of} ({', '.join(names)}) were compared by {ablation.metric} on the "
        "validation set, at the last validation of each training."
    )
    yield (
        f"Each has {len(ablation.seeds)} replicates, of the seeds "
        f"{', '.join(map(str, ablation.seeds))}."
    )
    yield pairing(ablation)
    yield replicate_data(ablation)
    if elsewhere := [v.name for v in ablation.variants if not v.trained]:
        yield f"Not trained here: {', '.join(elsewhere)}."
    yield from (_tuned(v.name, v.tuning) for v in ablation.variants if v.tuning)


def _tuned(name: str, tuning: Tuning) -> str:
    keys, count = ", ".join(tuning.keys), len(tuning.values)
    tried = f"Of {name}, {count} combinations of {keys} were tried by runs from seeds of their own"
    if tuning.chosen is None:
        return f"{tried}; none has a value, and none was chosen."
    chosen = ", ".join(f"{key} {yaml_value(value)}" for key, value in tuning.chosen.items())
    own = f"reported as {tuning.tuned_variant}" if tuning.tuned_variant else "its own values"
    return f"{tried}; the best was {chosen} ({own})."


def _tests(ablation: AblationFolder) -> Iterable[str]:
    planned = [one.contrast.name for one in ablation.comparisons if one.contrast.planned]
    added = [one.contrast.name for one in ablation.comparisons if not one.contrast.planned]
    margin = ablation.margin
    if not planned:
        yield "No contrast was declared before the first result, and none was tested."
    else:
        yield f"Declared before the first result: {'; '.join(planned)}."
        yield (
            "A contrast has one value a replicate, whose mean was tested against 0 by a two-sided "
            "paired t-test. P-values are Bonferroni-corrected for "
            f"{counted(len(planned), 'contrast')}, and the 95 % intervals are simultaneous over "
            "them."
        )
        yield (
            f"Two are called equal within ±{margin:g} by two one-sided tests, corrected likewise."
            if margin
            else "No margin was declared, and equality was not tested."
        )
    yield from (f"Not tested: {sentence}." for sentence in untested(ablation))
    if added:
        yield f"Added after the first result, and estimated without a test: {'; '.join(added)}."


def _runs(ablation: AblationFolder) -> Iterable[str]:
    metric, worst = ablation.metric, worst_value(ablation.metric)
    diverged = [f"{v.name}: {len(v.diverged)}" for v in ablation.variants if v.diverged]
    if diverged:
        counted = "count for nothing" if worst is None else f"count as {metric} {worst:g}"
        yield f"Runs that diverged ({', '.join(diverged)}) {counted}. {diverging(ablation)}"
    not_finite = [f"{v.name}: {len(v.not_finite)}" for v in ablation.variants if v.not_finite]
    if not_finite:
        yield (
            f"Runs whose {metric} was not finite at the end ({', '.join(not_finite)}) are in no "
            "mean."
        )
    lost = sum(len(v.values) - len(v.outcomes) for v in ablation.variants)
    if lost:
        yield f"{lost} of the runs have no {metric} for another reason, and are left out."
    yield correlation(ablation)
    yield flatness(ablation)


def _amendment(sentences: list[str]) -> Iterable[str]:
    yield "The design was changed after its first result."
    yield from sentences


def _versions(ablation: AblationFolder) -> Iterable[str]:
    found = {key: value for key, value in environment(ablation.runs) if key in VERSIONS}
    known = ", ".join(f"{key} {found[key]}" for key in VERSIONS if key in found)
    yield f"Versions: {known}." if known else "The versions are not known."
