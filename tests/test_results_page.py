"""docs/results.md: what its sections on ablations say of AP follows from docs/ablations/*.json."""

import itertools
import re
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import HOME

from detector.lab.results import Results, read_results
from detector.report.markdown import results_table

FILES = sorted((HOME / "docs" / "ablations").glob("*.json"))
SEEDS = (0, 1, 2)
PAGE = (HOME / "docs" / "results.md").read_text()
SECTIONS = {
    file.stem: section
    for section in PAGE.split("\n## ")
    for file in FILES
    if f"(ablations/{file.name})" in section
}
TRIPLE = re.compile(r"([+-]0\.\d{3}),\s+([+-]0\.\d{3}),\s+([+-]0\.\d{3})")


def differences(every: list[Results]) -> set[tuple[str, ...]]:
    """Of any two variants of any files, seed by seed, as they are written."""
    rows = [
        [v.values[seed] or 0.0 for seed in SEEDS]
        for results in every
        for v in results.variants
        if v.n == len(SEEDS)
    ]
    return {
        tuple(f"{a - b:+.3f}" for a, b in zip(one, other, strict=True))
        for one, other in itertools.permutations(rows, 2)
    }


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_tables_are_those_of_their_files(file: Path) -> None:
    assert results_table(read_results(file)) in SECTIONS[file.stem], "docs/ablations/README.md"


def test_differences_by_seed_are_in_the_files() -> None:
    known = differences([read_results(file) for file in FILES])
    found = [triple for section in SECTIONS.values() for triple in TRIPLE.findall(section)]
    assert len(found) >= 10 and not [triple for triple in found if triple not in known]


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_every_p_is_one_of_its_section(file: Path) -> None:
    tests = [one.test for one in read_results(file).comparisons if one.test]
    known = {f"{p:.3f}" for test in tests for p in (test.p, test.p_alone)}
    found = re.findall(r"\bp\s+(0\.\d+)", SECTIONS[file.stem])
    assert found and set(found) <= known


def test_seeds_for_half_a_point() -> None:
    results = replace(read_results(HOME / "docs/ablations/background.json"), margin=0.005)
    needed = [one.needed for one in results.comparisons if one.needed]
    said = f"would take {min(n.n for n in needed)} to {max(n.n for n in needed)} seeds"
    largest = max(needed, key=lambda n: n.n)
    assert said in SECTIONS["background"]
    assert f"may be {largest.low} or {largest.high:,}" in SECTIONS["background"]
