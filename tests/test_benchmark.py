"""tools/benchmark.py as a user runs it; times are noise, so only what must hold is asserted."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import Command

from detector.commands.stopwatch import PARTS, Laps, Ratio, extra_peak, in_turn

CPU = torch.device("cpu")
PRESETS = {"cross_entropy", "background_cross_entropy", "focal"}
SMALL = ["model.fpn.channels=16", "model.head.convs=1", "data.resize={width: 72, height: 40}"]
SIZES = "--rounds 2 --anchors 20000 --boxes 30 --classes 40".split()


@pytest.fixture(scope="module")
def output(tool: Command, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished benchmark of two micro-batches of two images, clipped and averaged."""
    folder = tmp_path_factory.mktemp("benchmark") / "deep" / "er"
    knobs = [*SMALL, "train.batch_size=4", "optimizer.accumulate=2", "train.ema=0.9"]
    done = tool("benchmark", "--output", folder, *SIZES, "--device", "cpu", "--set", *knobs)
    assert done.returncode == 0 and done.stderr == "", done.stderr
    for word in (*PRESETS, *PARTS, "matching", "copies", f"written: {folder}/benchmark.json"):
        assert word in done.stdout
    return folder


@pytest.fixture(scope="module")
def report(output: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((output / "benchmark.json").read_text())
    return found


def ratios(tree: Any) -> list[dict[str, float]]:
    """Every {median, lowest, highest} of a report."""
    if not isinstance(tree, dict):
        return []
    inner = [one for value in tree.values() for one in ratios(value)]
    return inner + [tree] * ("median" in tree)


def test_the_file_says_what_was_measured(output: Path, report: dict[str, Any]) -> None:
    assert [path.name for path in output.iterdir()] == ["benchmark.json"]
    assert list(report) == ["environment", "setting", "loss", "matching", "step"]
    assert report["environment"]["torch"] == torch.__version__
    assert report["environment"]["command"][0] == "tools/benchmark.py"
    sizes = {"device": "cpu", "rounds": 2, "anchors": 20000, "boxes": 30, "classes": 40}
    assert report["setting"] == sizes


def test_every_ratio_has_its_range(report: dict[str, Any]) -> None:
    """Three losses, matching, five parts, three presets, a diagnosis; nothing is a time alone."""
    found = ratios(report)
    assert len(found) == 3 + 1 + 5 + 3 + 1
    assert all(0 < one["lowest"] <= one["median"] <= one["highest"] for one in found)


def test_losses_are_those_of_the_partners_in_less_memory(report: dict[str, Any]) -> None:
    """Equal gradients. By hand: torch's hold targets, gradient and one intermediate, 3 copies."""
    assert set(report["loss"]) == PRESETS
    for name, one in report["loss"].items():
        assert one["difference"] < 1e-5, name
        assert 1 < one["copies"] < 3.5, name
    for name in ("cross_entropy", "background_cross_entropy"):
        assert report["loss"][name]["partner_copies"] == pytest.approx(3, abs=0.5)
    assert report["loss"]["focal"]["partner_copies"] > 7


def test_matching_is_that_of_the_partner(report: dict[str, Any]) -> None:
    """By hand: the partner holds at least one table of pairs, 30 x 20,000 float32."""
    one = report["matching"]
    assert 0.99 < one["agreement"] <= 1
    assert one["partner_extra_bytes"] > 30 * 20_000 * 4
    assert one["memory"] == pytest.approx(one["partner_extra_bytes"] / one["extra_bytes"])


def test_the_step_is_divided(report: dict[str, Any]) -> None:
    """Four images of 72 x 40 are padded to multiples of 32; focal's cost is its own unit.

    Of two rounds the median is the mean, so that the medians of the shares add up to 1.
    """
    step = report["step"]
    assert step["images"] == [4, 64, 96] and step["precision"] == "float32"
    assert list(step["share"]) == list(PARTS) and set(step["cost"]) == PRESETS
    for end in ("lowest", "median", "highest"):
        assert all(0 < step["share"][part][end] < 1 for part in PARTS)
    assert sum(one["median"] for one in step["share"].values()) == pytest.approx(1)
    assert step["diagnosis"]["lowest"] > 0 and step["diagnosis_every"] == 20
    assert step["cost"]["focal"] == {"median": 1, "lowest": 1, "highest": 1}


def test_ratio() -> None:
    assert Ratio.of([3.0, 1.0, 8.0, 2.0]) == Ratio(2.5, 1.0, 8.0)


def test_sides_run_in_turn() -> None:
    calls: list[str] = []
    works = {"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}
    times = in_turn(works, rounds=3, on=CPU)
    assert "".join(calls) == "ababab"
    assert [list(one) for one in times] == [["a", "b"]] * 3


def test_extra_peak_counts_what_is_held_at_once() -> None:
    """1000 float32 are kept while 500 and then 250 come and go: 4000 + 2000 bytes."""

    def work() -> torch.Tensor:
        kept = torch.ones(1000)
        torch.ones(500)
        torch.ones(250)
        return kept

    assert extra_peak(work, CPU) == 6000


def test_laps_share_out_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Parts of 1, 2, 3, 4 seconds and the rest, 10 of 20."""
    ticks = iter([100.0, 101.0, 103.0, 106.0, 110.0, 120.0])
    monkeypatch.setattr("detector.commands.stopwatch.now", lambda on: next(ticks))
    laps = Laps(CPU)
    shares = laps.shares(lambda: [laps.end(part) for part in PARTS[:4]])
    assert list(shares.values()) == pytest.approx([0.05, 0.1, 0.15, 0.2, 0.5])


REFUSED = {
    "no rounds": (["--rounds", "0"], ["--rounds is 0", "at least 1"]),
    "no such config": (["--config", "none.yaml"], ["none.yaml"]),
    "no GPU": (["--device", "cuda"], ["--device is cuda", "cpu"]),
}


@pytest.mark.parametrize("case", REFUSED)
def test_bad_arguments(tool: Command, tmp_path: Path, case: str) -> None:
    arguments, words = REFUSED[case]
    done = tool("benchmark", "--output", tmp_path / "b", *arguments)
    assert done.returncode == 2 and done.stderr.startswith("error: "), done.stderr
    assert all(word in done.stderr for word in words), done.stderr
    assert done.stderr.count("\n") == 1 and not (tmp_path / "b").exists()


def test_an_existing_output_is_refused_before_anything_is_measured(
    tool: Command, output: Path
) -> None:
    before = (output / "benchmark.json").read_bytes()
    done = tool("benchmark", "--output", output, timeout=60)
    assert done.returncode == 2 and str(output) in done.stderr and done.stdout == ""
    assert (output / "benchmark.json").read_bytes() == before
