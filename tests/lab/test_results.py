"""results.json: what is read is what was written, byte for byte."""

import json
from pathlib import Path
from typing import Any

import pytest
from conftest import HOME

from detector.errors import InputError
from detector.lab.contrasts import difference
from detector.lab.results import read_results, write_results

SHIPPED = sorted((HOME / "docs" / "ablations").glob("*.json"))
TUNED: dict[str, Any] = {
    "ablation": "a.yaml",
    "metric": "AP",
    "baseline": "a",
    "seeds": [3, 0],
    "variants": [
        {
            "name": "a", "question": "", "published": {"value": 0.5, "source": "table 1"},
            "changes": {"x": [1, 1.0], "y": [None, "ohem"], "z": [[1, 2], {"k": True}]},
            "values": {"3": None, "0": 0.1}, "n": 1, "mean": 0.1, "standard_deviation": None,
            "interval": None, "confounders": {"divisor": None},
            "tuning": {
                "keys": {"x": [1, 1.0, "a", [2]]}, "values": {"x=1": None, "x=1.0": 0.2},
                "chosen": {"x": 1}, "at_edge": ["x"], "lead": None, "tuned_variant": "a_tuned",
            },
            "diverged": [3], "not_finite": [], "figures": {"AR100": {"3": None, "0": 0.25}},
            "measures": {"D-ECE": {"0": 0.125}}, "validations": {"0": [[1.5, None], [2.0, 0.1]]},
            "success": {"runs": 2, "succeeded": 1, "mean": 0.1},
        }
    ],
    "failed_trials": ["tuning/a/x=1, seed 3"],
    "seconds": {"a, seed 3": None, "a, seed 0": 1.5},
    "runner": {"workers": 1, "wall": 1.0, "busy": 0.0, "idle": 0.0, "overhead": None},
    "contrasts": [{"name": "b - a", "coefficients": {"b": 1.0, "a": -1.0}, "planned": False}],
    "margin": 0.02,
    "amendments": [],
    "comparisons": [
        {
            "contrast": {"name": "b - a", "coefficients": {"b": 1.0, "a": -1.0}, "planned": False},
            "values": {}, "mean": None, "test": None,
            "untested": "no replicate has run in all of its variants", "equivalence": None,
            "needed": None, "verdict": "not planned",
        }
    ],
    "replicate_correlation": None,
}  # fmt: skip


@pytest.mark.parametrize("file", SHIPPED, ids=lambda file: file.stem)
def test_a_shipped_file_is_written_back_equally(file: Path, tmp_path: Path) -> None:
    """Its statistics are those of today."""
    write_results(tmp_path / "again.json", read_results(file))
    assert (tmp_path / "again.json").read_text() == file.read_text()


def test_a_file_without_contrasts_compares_with_the_baseline(tmp_path: Path) -> None:
    """As older versions did, whose statistics in it are not looked at."""
    a = TUNED["variants"][0] | {"tuning": None, "difference": None}
    b = a | {"name": "b", "values": {"3": 0.25, "0": 0.375}, "difference": {"p_holm": 0.001}}
    older = {key: TUNED[key] for key in ("ablation", "metric", "baseline", "seeds", "runner",
                                         "failed_trials", "seconds")}  # fmt: skip
    (tmp_path / "old.json").write_text(json.dumps(older | {"variants": [a, b]}))
    (found,) = read_results(tmp_path / "old.json").comparisons
    assert found.contrast == difference("b", "a") and found.values == {3: 0.25, 0: 0.275}


def test_an_older_file_compares_tuned_with_tuned(tmp_path: Path) -> None:
    """b's own values were its best; a's were not, and the variant that has them stands last."""
    a = TUNED["variants"][0]
    b = a | {"name": "b", "tuning": a["tuning"] | {"tuned_variant": None}}
    variants = [a, b, a | {"name": "a_tuned", "tuning": None}]
    (tmp_path / "old.json").write_text(json.dumps(TUNED | {"variants": variants, "contrasts": []}))
    contrasts = read_results(tmp_path / "old.json").contrasts
    assert [contrast.name for contrast in contrasts] == ["b - a", "b - a_tuned"]


def test_only_a_diverged_run_counts_as_the_worst(tmp_path: Path) -> None:
    """Seed 3 of a failed; whether it would have been good nobody knows, unless it diverged."""
    a = TUNED["variants"][0] | {"tuning": None, "diverged": []}
    b = a | {"name": "b", "values": {"3": 0.25, "0": 0.375}, "diverged": []}
    contrasts = [{"name": "b - a", "coefficients": {"b": 1, "a": -1}}]

    def found(diverged: list[int], metric: str) -> tuple[dict[int, float], tuple[int, int]]:
        content = TUNED | {"variants": [a | {"diverged": diverged}, b], "metric": metric}
        (tmp_path / "r.json").write_text(json.dumps(content | {"contrasts": contrasts}))
        results = read_results(tmp_path / "r.json")
        success = results.variants[0].success
        return dict(results.comparisons[0].values), (success.succeeded, success.runs)

    assert found([], "AP") == ({0: pytest.approx(0.275)}, (1, 1))
    assert found([3], "AP") == ({3: 0.25, 0: pytest.approx(0.275)}, (1, 2))
    assert found([3], "loss") == ({}, (1, 2))
    a |= {"not_finite": [3]}  # a loss of inf at the end of a whole training
    assert found([], "loss") == ({}, (1, 2))


def test_tuned_values_and_unknown_ones_are_written_back_equally(tmp_path: Path) -> None:
    """1 stays 1 and 1.0 stays 1.0; the bootstrap is absent until it is computed."""
    file = tmp_path / "results.json"
    text = json.dumps(TUNED, indent=2) + "\n"
    file.write_text(text)
    write_results(file, read_results(file))
    assert file.read_text() == text and "bootstrap" not in text


@pytest.mark.parametrize(
    ("text", "where"),
    [("{", "file: Invalid JSON"), ('{"ablation": 1}', "ablation: "), ("[]", "file: ")],
)
def test_another_file_is_named(tmp_path: Path, text: str, where: str) -> None:
    (tmp_path / "results.json").write_text(text)
    with pytest.raises(InputError, match=rf"results\.json of an ablation \({where}"):
        read_results(tmp_path / "results.json")
