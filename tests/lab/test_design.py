"""The design of an ablation: kept once a run is finished, changed only with a reason."""

import json
from pathlib import Path
from typing import Any

import pytest
from conftest import HOME

from detector import build
from detector.errors import InputError
from detector.lab.design import declared
from detector.lab.plan import Plan

DESIGN: dict[str, Any] = {
    "seeds": [0, 1, 2],
    "metric": "AP",
    "margin": 0.02,
    "contrasts": [["b", "a"]],
}
VARIANTS = {
    name: {"set": [f"loss.classification.gamma={gamma}"]} for gamma, name in enumerate("abc")
}


def plan(folder: Path, **changes: Any) -> Plan:
    content = {"config": str(HOME / "configs" / "digits.yaml"), "variants": VARIANTS}
    file = folder / "ablation.yaml"
    file.write_text(json.dumps({**content, **DESIGN, **changes}))
    return Plan.read(file, [], load=build.load_config)


@pytest.fixture
def begun(tmp_path: Path) -> Path:
    """A folder in which one run is finished."""
    output = tmp_path / "out"
    declared(plan(tmp_path), output, None).write(output)
    (output / "state.json").write_text(json.dumps({"a, seed 0": 7.0}))
    return output


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"seeds": [0, 1, 2, 3]}, r"seeds was \[0, 1, 2\] .* now it is \[0, 1, 2, 3\]"),
        ({"seeds": [0, 1]}, r"seeds was \[0, 1, 2\]"),
        ({"margin": 0.05}, "margin was 0.02"),
        ({"metric": "AP50"}, 'metric was "AP"'),
    ],
)
def test_a_change_after_a_run_needs_a_reason(
    tmp_path: Path, begun: Path, change: dict[str, Any], said: str
) -> None:
    changed = plan(tmp_path, **change)
    with pytest.raises(InputError, match=f"{said}.*--amend"):
        declared(changed, begun, None)
    (begun / "results.json").write_text("{}")
    declared(changed, begun, "the reviewer asked").write(begun)
    record = declared(changed, begun, None)  # the same command goes on
    (amendment,) = record.amendments
    (key,) = change
    assert (amendment.before, amendment.after) == ({key: DESIGN[key]}, change)
    assert amendment.reason == "the reviewer asked" and amendment.results_seen
    assert record.design is not None and record.design[key] == DESIGN[key]
    assert declared(changed, begun, "again").amendments == (amendment,)
    with pytest.raises(InputError, match=f"{key} was"):  # back is a change, too
        declared(plan(tmp_path), begun, None)


def test_before_the_first_run_is_finished_the_design_is_free(tmp_path: Path, begun: Path) -> None:
    (begun / "state.json").write_text(json.dumps({"tuning/a/lr=1, seed 1000": 7.0}))
    more = plan(tmp_path, seeds=[0, 1, 2, 3], contrasts=[["c", "a"]])
    record = declared(more, begun, None)
    assert record.amendments == () and record.design is not None
    assert record.design["seeds"] == [0, 1, 2, 3]
    assert [contrast.planned for contrast in record.planned(more).contrasts] == [True]


def test_results_tell_where_state_json_was_deleted(tmp_path: Path, begun: Path) -> None:
    """A broken state.json is to be deleted, and the design is no freer for it."""
    (begun / "state.json").unlink()
    published = json.loads((HOME / "docs" / "ablations" / "gamma.json").read_text())
    (begun / "results.json").write_text(json.dumps(published | {"variants": []}))
    declared(plan(tmp_path, margin=0.05), begun, None)  # all failed: nothing was to be seen
    (begun / "results.json").write_text(json.dumps(published))
    with pytest.raises(InputError, match="margin was 0.02"):
        declared(plan(tmp_path, margin=0.05), begun, None)


def test_contrasts_that_are_added_are_not_planned(tmp_path: Path, begun: Path) -> None:
    more = plan(tmp_path, contrasts=[["c", "a"], ["b", "a"], [["c", "a"], ["b", "a"]]])
    marked = declared(more, begun, None).planned(more)
    assert {c.name: c.planned for c in marked.contrasts} == {
        "c - a": False, "b - a": True, "(c - a) - (b - a)": False,
    }  # fmt: skip


def test_a_contrast_that_is_left_out_is_a_change(tmp_path: Path, begun: Path) -> None:
    """Otherwise what is found would choose what p is corrected for."""
    other = plan(tmp_path, contrasts=[["c", "a"]])
    with pytest.raises(InputError, match=r'contrasts was \["b - a"\] .* now it is \["c - a"\]'):
        declared(other, begun, None)
    (amendment,) = declared(other, begun, "b is of no use").amendments
    assert (amendment.before, amendment.after) == (
        {"contrasts": ["b - a"]},
        {"contrasts": ["c - a"]},
    )


def test_a_folder_of_an_older_version_has_no_design(tmp_path: Path, begun: Path) -> None:
    content = json.loads((begun / "ablation.json").read_text())
    del content["design"], content["amendments"]
    (begun / "ablation.json").write_text(json.dumps(content))
    with pytest.raises(InputError, match="seeds was not recorded"):
        declared(plan(tmp_path), begun, None)
    declared(plan(tmp_path), begun, "begun before designs were recorded").write(begun)
    record = declared(plan(tmp_path), begun, None)
    assert not record.planned(plan(tmp_path)).contrasts[0].planned
    assert record.amendments[0].before == {"seeds": None, "metric": None, "margin": None}


def test_a_run_that_diverged_is_a_result(tmp_path: Path) -> None:
    """state.json does not name it, and yet somebody has seen it."""
    output = tmp_path / "out"
    declared(plan(tmp_path), output, None).write(output)
    declared(plan(tmp_path, margin=0.05), output, None)
    (output / "runs" / "a" / "seed0" / "failure").mkdir(parents=True)
    with pytest.raises(InputError, match="margin was 0.02"):
        declared(plan(tmp_path, margin=0.05), output, None)
