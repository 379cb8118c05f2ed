"""Detections of another detector as a variant."""

import json
from pathlib import Path

import pytest
from conftest import HOME, Command

from detector import build
from detector.cli.ablation_external import external_run, measure_external
from detector.errors import InputError
from detector.lab.plan import Plan
from detector.lab.records import last_metric


def read(folder: Path, tiny: list[str]) -> Plan:
    file = folder / "ablation.yaml"
    variants = {"a": {}, "b": {"set": ["loss.classification.gamma=1"]}}
    content = {"config": str(HOME / "configs/digits.yaml"), "set": tiny, "variants": variants}
    files = [str(folder / f"{name}.json") for name in ("all", "none")]
    content |= {"seeds": [3, 4], "contrasts": [["theirs", "a"]], "external": {"theirs": files}}
    file.write_text(json.dumps(content))
    return Plan.read(file, [], load=build.load_config)


def test_measured_on_the_validation_set(digits: Path, tiny: list[str], tmp_path: Path) -> None:
    """All boxes as detections are AP 1, none are AP 0; a file that changes later is refused."""
    truth = json.loads((digits / "annotations" / "val.json").read_text())
    perfect = [
        {key: box[key] for key in ("image_id", "category_id", "bbox")} | {"score": 1.0}
        for box in truth["annotations"]
    ]
    (tmp_path / "all.json").write_text(json.dumps(perfect))
    (tmp_path / "none.json").write_text("[]")
    plan, output = read(tmp_path, tiny), tmp_path / "out"
    assert plan.names == ["a", "b", "theirs"]
    for _ in range(2):
        measure_external(plan, output)
        runs = [external_run(output, "theirs", seed) for seed in (3, 4)]
        assert [last_metric(run, "AP") for run in runs] == [pytest.approx(1), 0]
        assert last_metric(runs[0], "AP50") == pytest.approx(1)
    (tmp_path / "none.json").write_text(json.dumps(perfect))
    with pytest.raises(InputError, match=r"none\.json: it changed since it was measured; delete"):
        measure_external(plan, output)


def test_what_is_no_result_file(tiny: list[str], tmp_path: Path) -> None:
    plan = read(tmp_path, tiny)
    with pytest.raises(InputError, match=r"external\.theirs: \S*all\.json cannot be read"):
        measure_external(plan, tmp_path / "out")
    (tmp_path / "all.json").write_text('[{"image_id": 99999}]')
    (tmp_path / "none.json").write_text("[]")
    with pytest.raises(InputError, match=r"all\.json: detection 0"):
        measure_external(plan, tmp_path / "out")
    assert not external_run(tmp_path / "out", "theirs", 3).exists()


def test_a_missing_file_is_said_before_anything_is_written(
    tiny: list[str], tmp_path: Path, tool: Command
) -> None:
    """Also by --dry-run, which lists the files."""
    read(tmp_path, tiny)
    words = ("ablate", "--config", tmp_path / "ablation.yaml", "--output", tmp_path / "out")
    for more in ([], ["--dry-run"]):
        done = tool(*words, *more)
        assert done.returncode == 2 and "all.json cannot be read" in done.stderr
    assert f"theirs  detections of another detector: {tmp_path}/all.json, " in done.stdout
    assert not (tmp_path / "out").exists()
