"""What a paper takes: signs, missing values and names as they must be, figures with their bars."""

import csv
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from made_up import declared_results, folder, results, tuned_results, write

from detector.lab.results import read_results
from detector.report.folder import read_folder
from detector.report.methods import methods
from detector.report.paper import csv_table, escaped, tex_table, write_paper
from detector.report.style import BLUE


@pytest.fixture(scope="module")
def ablation(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = folder(tmp_path_factory.mktemp("paper") / "tiny")
    write(path / "results.json", declared_results())
    return path


def test_all_of_it_is_written_and_twice_the_same(ablation: Path) -> None:
    paper = write_paper(read_folder(ablation))
    first = {file.name: file.read_bytes() for file in paper.iterdir()}
    assert sorted(first) == [
        "curves.pdf", "curves.svg", "forest.pdf", "forest.svg", "methods.md", "table.csv",
        "table.tex",
    ]  # fmt: skip
    write_paper(read_folder(ablation))
    assert {file.name: file.read_bytes() for file in paper.iterdir()} == first
    assert first["forest.pdf"].startswith(b"%PDF") and first["curves.pdf"].startswith(b"%PDF")


def test_figures_stand_alone_with_their_intervals(ablation: Path) -> None:
    """Blue are plain_ce and its two contrasts: its own bar, and one of two, in both panels below.

    The third row, not planned, has no interval.
    """
    svg = (write_paper(read_folder(ablation)) / "forest.svg").read_text()
    bars = re.findall(rf"stroke: {BLUE}; stroke-opacity: 0.75; stroke-width: 2\b", svg)
    assert len(bars) == 3
    assert "<text" not in svg and not re.search(r"@import|url\((?!#)|<image|<style[^>]*src", svg)


def test_a_folder_without_runs_has_tables_alone(tmp_path: Path) -> None:
    content = results()
    for entry in content["variants"]:
        entry.update(values={"0": None}, n=0, mean=None, interval=None)
    write(tmp_path / "results.json", content | {"seeds": [0]})
    paper = write_paper(read_folder(tmp_path))
    assert sorted(file.name for file in paper.iterdir()) == [
        "methods.md", "table.csv", "table.tex"
    ]  # fmt: skip
    assert "focal & -- & -- & 0 \\\\" in (paper / "table.tex").read_text()


def test_the_csv_has_every_figure_in_full(ablation: Path) -> None:
    text = csv_table(read_results(ablation / "results.json"))
    rows = {row["name"]: row for row in csv.DictReader(text.splitlines())}
    ignored, contrast = rows["ignored"], rows["ignored - focal"]
    assert (ignored["runs"], ignored["succeeded"], ignored["seed 1"]) == ("3", "2", "")
    assert float(ignored["mean_of_succeeded"]) == pytest.approx(0.002)
    assert float(ignored["AR_100, seed 2"]) == 0.75
    assert float(contrast["seed 1"]) == -0.36  # it diverged, and counts as 0
    assert float(contrast["low"]) == pytest.approx(-0.391175, abs=1e-6)
    assert float(contrast["p_corrected"]) == 2 * float(contrast["p"])
    assert rows["plain_ce - ignored"]["p"] == rows["focal"]["p"] == ""
    assert rows["plain_ce - focal"]["verdict"] == "different, by less than 0.02"


def test_the_tex_table_is_latex(ablation: Path) -> None:
    """A minus in maths, names with their _, and -- where there is nothing."""
    text = tex_table(read_results(ablation / "results.json"))
    assert "variant & AP & 95\\,\\% interval & $n$ & succeeded & AR\\_100 \\\\\n\\midrule" in text
    assert "ignored & $0.002$ & $0.335$ to $0.385$ & 3 & 2 of 3 & $0.500$ \\\\" in text
    assert (
        "plain\\_ce $-$ focal & $-0.009$ & $-0.013$ to $-0.005$ & $0.008$ & "
        "different, by less than 0.02 \\\\\n"
    ) in text
    assert "ignored $-$ focal & $-0.359$ & $-0.391$ to $-0.326$ & $< 0.001$ & diff" in text
    assert "plain\\_ce $-$ ignored & $+0.350$ & -- & -- & not planned \\\\\n" in text
    for line in text.splitlines():
        assert not re.search(r"(?<!\\)[_%#]|[−±–]", line.removeprefix("%")), line
    columns = {line.count(" & ") for line in text.splitlines() if " & " in line}
    assert columns == {5, 4}


def test_a_figure_that_a_run_lacks_has_no_mean(ablation: Path) -> None:
    results = read_results(ablation / "results.json")
    lacking = replace(results.variants[0], figures={"AR_100": {0: 0.5, 1: None, 2: 0.75}})
    text = tex_table(replace(results, variants=(lacking, *results.variants[1:])))
    assert "focal & $0.360$ & $0.335$ to $0.385$ & 3 & 3 of 3 & -- \\\\" in text


def test_what_latex_takes_for_its_own_is_escaped() -> None:
    assert escaped(r"a_b 5% \x") == r"a\_b 5\% \textbackslash{}x"
    assert escaped("{$}~^#&") == r"\{\$\}\textasciitilde{}\textasciicircum{}\#\&"
    assert escaped("equal within ±0.02, <1") == r"equal within $\pm$0.02, $<$1"


def test_methods_say_what_was_declared(ablation: Path) -> None:
    text = methods(read_folder(ablation))
    for said in (
        "3 variants of configs/digits.yaml (focal, plain_ce, ignored) were compared by AP",
        "3 replicates, of the seeds 0, 1, 2. Trainings of one seed start from the same weights",
        "Declared before the first result: plain_ce - focal; ignored - focal.",
        "Bonferroni-corrected for 2 contrasts",
        "equal within ±0.02",
        "estimated without a test: plain_ce - ignored.",
        "Runs that diverged (ignored: 1) count as AP 0.",
        "Reason given: a reviewer <asked>. P-values are too small",
        "Versions: git abc123+, torch 2.14.1, gpus none.",
    ):
        assert said in text
    assert "Not tested" not in text and "another reason" not in text


def test_methods_claim_nothing_that_was_not_done(tmp_path: Path) -> None:
    """No contrast was planned, no margin declared, and a run failed without diverging."""
    content = declared_results() | {"margin": None, "amendments": []}
    for contrast in content["contrasts"]:
        contrast["planned"] = False
    content["variants"][2]["diverged"] = []
    write(tmp_path / "results.json", content)
    text = methods(read_folder(tmp_path))
    assert "No contrast was declared before the first result, and none was tested." in text
    for claim in ("t-test", "Bonferroni", "equal within", "diverged", "design was changed"):
        assert claim not in text
    assert "1 of the runs have no AP for another reason, and are left out." in text
    assert "The versions are not known." in text


def test_methods_name_what_was_tuned_and_what_is_not_ours(tmp_path: Path) -> None:
    """Only what was trained has seconds."""
    content = tuned_results()
    names = ("focal", "plain_ce", "plain_ce_tuned")
    content["seconds"] = {f"{name}, seed {seed}": 1.0 for name in names for seed in range(3)}
    write(tmp_path / "results.json", content)
    text = methods(read_folder(tmp_path))
    assert "Of plain_ce, 2 combinations of optimizer.lr, loss.weight were tried by runs" in text
    assert "the best was optimizer.lr 0.02, loss.weight 1 (reported as plain_ce_tuned)." in text
    assert "loss.weight 1 (its own values)." in text  # those of focal
    assert "Not trained here: ignored." in text
    assert "No margin was declared, and equality was not tested." in text


def test_what_diverged_was_trained_and_where_nothing_was_chosen_nothing_was_best(
    tmp_path: Path,
) -> None:
    """Of runs that diverged in an earlier call the seconds are not known."""
    content = tuned_results()
    content["seconds"] = {}
    for entry in content["variants"]:
        entry["diverged"] = [1]
    content["variants"][0]["tuning"] |= {"chosen": None}
    write(tmp_path / "results.json", content)
    text = methods(read_folder(tmp_path))
    assert "Not trained here" not in text
    assert "own; none has a value, and none was chosen." in text


def test_versions_name_those_that_a_run_was_resumed_by(ablation: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(ablation, tmp_path / "copy"))
    run = copy / "runs" / "focal" / "seed0"
    for step, commit in ((100, "later"), (20, "def")):
        write(run / f"environment.resumed_at_{step}.json", {"git": commit, "torch": "2.14.1",
                                                            "gpus": []})  # fmt: skip
    text = methods(read_folder(copy))
    assert "git abc123+, then def, then later (1 runs); abc123+ (8 runs), torch 2.14.1," in text
