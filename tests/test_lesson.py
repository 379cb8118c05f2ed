"""docs/losses.md: counts and sums that a person can redo, tables that repeat their files."""

import json
import math
import re
from pathlib import Path
from typing import Any

import plot_losses
import pytest
from conftest import HOME, Command
from plot_losses import AnchorCounts, answer, untrained

from detector.build import load_config
from detector.errors import InputError
from detector.lab.plan import Plan

MEASURED = sorted((HOME / "docs" / "ablations").glob("*.json"))


def variant(name: str, mean: float | None, ends: list[float] | None, *values: float) -> Any:
    """An entry of results.json."""
    return {
        "name": name, "question": "", "published": None, "changes": {},
        "values": dict(enumerate(values)), "n": len(values), "mean": mean,
        "standard_deviation": None, "interval": ends, "confounders": {}, "tuning": None,
    }  # fmt: skip


RESULTS: dict[str, Any] = {
    "ablation": "configs/ablations/gamma.yaml",
    "metric": "AP",
    "baseline": "focal",
    "seeds": [0, 1],
    "variants": [
        variant("focal", 0.5, [0.4, 0.6], 0.5, 0.5 + 1e-6),
        variant("plain", 0.25, [0.2, 0.3], 0.2, 0.3),
        variant("gone", None, None),
    ],
    "failed_trials": [],
    "seconds": {},
    "runner": {"workers": 1, "wall": 1.0, "busy": 0.0, "idle": 0.0, "overhead": None},
}


def test_totals_by_hand() -> None:
    """Two foreground and ten background anchors, three classes; every score 1/2 or 1/100."""
    counts = AnchorCounts(1, 1, anchors=12, classes=3, foreground=2, background=10)
    found = {t.name: (t.foreground, t.background) for t in untrained(counts)}
    even = math.log(2)
    assert found["cross-entropy, bias 0 (π = 0.5)"] == pytest.approx((6 * even, 30 * even))
    yes, no = -math.log(0.01), -math.log(0.99)
    assert found["cross-entropy, π = 0.01"] == pytest.approx((2 * (yes + 2 * no), 30 * no))
    one, other = 0.25 * even / 4, 0.75 * even / 4
    assert found["focal, γ = 2, α = 0.25, bias 0"] == pytest.approx(
        (2 * (one + 2 * other), 30 * other)
    )


def test_one_seed_has_no_interval(tmp_path: Path) -> None:
    file = tmp_path / "gamma.json"
    focal, plain, gone = RESULTS["variants"]
    first = [one | {"values": {"0": one["mean"]}, "interval": None} for one in (focal, plain)]
    file.write_text(json.dumps(RESULTS | {"variants": [*first, gone], "seeds": [0]}))
    lines = answer(file).splitlines()
    assert "| plain | 0.250 |  |" in lines
    assert "| plain - focal | −0.250 |  | – | not tested |" in lines


def test_the_page_is_replaced_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever reads it, or a kill before the end, meets the old page and no part of the new one."""
    page = tmp_path / "losses.md"
    page.write_text("old")
    seen: list[str] = []

    def replace(draft: Path, target: Path) -> None:
        if target == page:
            seen.append(page.read_text())
        Path(draft).rename(target)

    counts = AnchorCounts(64, 64, 100, classes=3, foreground=2, background=10)
    monkeypatch.setattr(plot_losses, "training_counts", lambda config: counts)
    monkeypatch.setattr(plot_losses, "draw_plots", lambda *args: [])
    monkeypatch.setattr("detector.files.os.replace", replace)
    config = load_config(HOME / "configs" / "digits.yaml", [])
    written = plot_losses.teach(config, config, tmp_path, tmp_path)
    assert written == [page, tmp_path / "losses.html"]
    assert seen == ["old"] and page.read_text().startswith("# One loss")


def test_a_table_repeats_its_file(tmp_path: Path) -> None:
    """-.3 and -.2: t = .25 / .05 = 5; one degree: p = 1 - 2/pi atan 5 = .1257, of two tests .251.

    t(1) leaves .05 / 4 above at 25.452, and 25.452 / 20 = 1.273.
    """
    file = tmp_path / "gamma.json"
    file.write_text(json.dumps(RESULTS))
    assert answer(file).splitlines()[1:] == [
        "Measured by `python tools/ablate.py --config configs/ablations/gamma.yaml` (2 seeds; "
        "intervals and p as in [statistics.md](statistics.md)):",
        "",
        "| variant | AP | 95 % interval |",
        "| --- | --- | --- |",
        "| focal | 0.500 | 0.400 to 0.600 |",
        "| plain | 0.250 | 0.200 to 0.300 |",
        "| gone (0 of 2 seeds) | – |  |",
        "",
        "| contrast | estimate | 95 % interval | p (corrected) | verdict |",
        "| --- | --- | --- | --- | --- |",
        "| plain - focal | −0.250 | −1.523 to +1.023 | 0.251 | not told apart |",
        "| gone - focal | – |  | – | not tested |",
    ]
    assert "not measured yet" in answer(tmp_path / "alpha.json")


@pytest.mark.parametrize("text", ["{", "[]", '{"variants": [{}], "baseline": "x"}'])
def test_another_file_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "gamma.json").write_text(text)
    with pytest.raises(InputError, match=r"gamma\.json: it is not the results\.json"):
        answer(tmp_path / "gamma.json")


def test_results_under_another_name_are_refused(tmp_path: Path) -> None:
    (tmp_path / "prior.json").write_text(json.dumps(RESULTS))
    with pytest.raises(
        InputError, match=r"prior\.json: it is of \S*gamma.yaml; call it gamma.json"
    ):
        answer(tmp_path / "prior.json")


def test_the_command(tool: Command, tiny: list[str], tmp_path: Path) -> None:
    """Anchors of 64 x 64 pixels: nine in each cell of maps of 8, 4, 2, 1 and 1."""
    words = ["--output", tmp_path, "--ablations", tmp_path, "--set", *tiny]
    done = tool("plot_losses", *words)
    assert done.returncode == 0, done.stderr
    text = (tmp_path / "losses.md").read_text()
    assert "201,600 anchors cover an image of 1344 × 800" in text
    assert f"{9 * (64 + 16 + 4 + 1 + 1)};" in text
    pictures = {path.name: path.read_bytes() for path in (tmp_path / "losses").iterdir()}
    assert len(pictures) == 5 and all(b"<svg" in content for content in pictures.values())
    assert all(f"losses/{name}" in text for name in pictures)
    assert tool("plot_losses", *words).returncode == 0
    again = {path.name: path.read_bytes() for path in (tmp_path / "losses").iterdir()}
    assert again == pictures and (tmp_path / "losses.md").read_text() == text


def test_the_page_holds_the_tables_of_its_files() -> None:
    """Those of a tuning stand in results.md."""
    page = (HOME / "docs" / "losses.md").read_text()
    for file in (file for file in MEASURED if not file.stem.endswith("_tuning")):
        assert answer(file) in page, f"{file}: run tools/plot_losses.py again"


def test_the_page_is_that_of_its_template() -> None:
    """Line by line, but for those that the template computes."""
    page = (HOME / "docs" / "losses.md").read_text().splitlines()
    template = (HOME / "tools" / "losses.md.j2").read_text().splitlines()
    plain = {line for line in template if not re.search(r"\{[{%#]|[#%}]\}", line)}
    assert len(plain) > 60 and plain <= set(page), plain - set(page)


@pytest.mark.parametrize("file", MEASURED, ids=lambda file: file.stem)
def test_the_results_are_those_of_the_ablation_of_that_name(file: Path) -> None:
    """The same variants from the same seeds, and each differs from the baseline as it does now."""
    plan = Plan.read(HOME / "configs" / "ablations" / f"{file.stem}.yaml", [], load=load_config)
    found = json.loads(file.read_text())
    assert found["ablation"] == f"configs/ablations/{file.name.replace('json', 'yaml')}"
    assert (found["baseline"], tuple(found["seeds"])) == (plan.baseline, plan.seeds)
    changes = {v.name: {k: list(d) for k, d in plan.differences(v).items()} for v in plan.variants}
    declared = [v for v in found["variants"] if v["name"] in changes]  # and not added by tuning
    assert {v["name"]: v["changes"] for v in declared} == changes


def test_a_folder_of_results_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"gone: there is no such folder of results"):
        answer(tmp_path / "gone" / "gamma.json")
