"""results.json: what is read is what was written, byte for byte."""

import json
from pathlib import Path
from typing import Any

import pytest
from conftest import HOME

from detector.errors import InputError
from detector.lab.results import read_results, write_results

SHIPPED = sorted((HOME / "docs" / "ablations").glob("*.json"))
DIFFERENCE = {
    "n": 2, "mean": -0.1, "standard_deviation": 0.0, "interval": [-0.1, -0.1],
    "differences": [-0.1, -0.1], "p": 0.0, "p_holm": None, "seeds_for_half_a_point": None,
}  # fmt: skip
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
            "interval": None, "difference": DIFFERENCE, "confounders": {"divisor": None},
            "tuning": {
                "keys": {"x": [1, 1.0, "a", [2]]}, "values": {"x=1": None, "x=1.0": 0.2},
                "chosen": {"x": 1}, "at_edge": ["x"], "lead": None, "tuned_variant": "a_tuned",
                "difference": DIFFERENCE | {"p": None},
            },
        }
    ],
    "failed_trials": ["tuning/a/x=1, seed 3"],
    "seconds": {"a, seed 3": None, "a, seed 0": 1.5},
    "runner": {"workers": 1, "wall": 1.0, "busy": 0.0, "idle": 0.0, "overhead": None},
    "contrasts": [{"name": "b - a", "coefficients": {"b": 1.0, "a": -1.0}, "planned": False}],
    "margin": 0.02,
    "amendments": [],
}  # fmt: skip


@pytest.mark.parametrize("file", SHIPPED, ids=lambda file: file.stem)
def test_a_shipped_file_is_written_back_equally(file: Path, tmp_path: Path) -> None:
    """What an ablation of today has beside it says that nothing was declared."""
    write_results(tmp_path / "again.json", read_results(file))
    again = json.loads((tmp_path / "again.json").read_text())
    declared = [again.pop(key) for key in ("contrasts", "margin", "amendments")]
    assert declared == [[], None, []]
    assert json.dumps(again) == json.dumps(json.loads(file.read_text()))


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
