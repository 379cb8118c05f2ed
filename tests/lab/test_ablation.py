"""A whole ablation whose trainings are shell commands: what its figures are, and are not, of."""

import json
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import HOME, Command

from detector import build
from detector.cli import ablate as command
from detector.cli import ablation_checks, ablation_results, ablation_runs
from detector.cli.ablation_checks import check_unchanged
from detector.cli.ablation_runs import forecast
from detector.cli.compare import Evaluated, bootstrap_comparison
from detector.engine.optim import Schedule
from detector.errors import InputError
from detector.lab.placement import Placement
from detector.lab.plan import Plan
from detector.lab.records import last_metric

DIGITS = HOME / "configs" / "digits.yaml"
TUNE = """baseline: a
seeds: [0, 1]
variants:
  a: {set: [loss.classification.gamma=0], tune: {optimizer.lr: [0.25, 0.5]}}
  b: {set: [loss.classification.gamma=1], tune: {optimizer.lr: [0.25, 0.5]}}
"""
PLAIN = """baseline: a
seeds: [0, 1]
variants: {a: {set: [loss.classification.gamma=0]}, b: {set: [loss.classification.gamma=1]}}
"""
Figure = Callable[[str], float | str]


def read(folder: Path, text: str, *overrides: str) -> Plan:
    file = folder / "ablation.yaml"
    file.write_text(f"config: {DIGITS}\n{text}\n")
    return Plan.read(file, overrides, load=build.load_config)


def alone(plan: Plan) -> Placement:
    """One run at a time, on the CPU."""
    return Placement.of(plan, (), workers=1)


@pytest.fixture
def shell(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """Runs an ablation in tmp_path; `figure` gives the AP of a folder or another shell command."""

    def run(text: str, figure: Figure, *, code: int = 0, diagnosis: str = "exit 3") -> Any:
        def training(
            plan: Plan, seed: int, directory: Path, changes: tuple[str, ...]
        ) -> tuple[str, ...]:
            found = figure(directory.relative_to(tmp_path / "out").as_posix())
            line = json.dumps({"step": 1, "epoch": 1.0, "validation/AP": found})
            if not isinstance(found, str):
                found = f"echo {shlex.quote(line)} > metrics.jsonl"
            folder = shlex.quote(str(directory))
            return ("sh", "-c", f"mkdir -p {folder} && cd {folder} && {found}")

        monkeypatch.setattr(command, "check_data", lambda plan: None)
        monkeypatch.setattr(build, "data_index", lambda config, part: range(100))
        monkeypatch.setattr(ablation_runs, "_training", training)
        monkeypatch.setattr(
            ablation_runs, "_diagnosis", lambda folder: ("sh", "-c", diagnosis, folder)
        )
        said: list[str] = []
        plan, output = read(tmp_path, text), tmp_path / "out"
        assert command.ablate(plan, output, placement=alone(plan), say=said.append) == code
        found = json.loads((output / "results.json").read_text())
        return found | {"said": said, "by_name": {v["name"]: v for v in found["variants"]}}

    return run


def by_seed(a: float, b: float) -> Figure:
    """Of the runs of plans without tuning."""
    return lambda name: (a if "/a" in name else b) + 0.01 * (name[-1] == "1")


def test_a_failed_diagnosis_leaves_the_figure_of_a_finished_training(shell: Any) -> None:
    found = shell(PLAIN, by_seed(0.5, 0.25), code=1)
    assert found["by_name"]["b"]["values"] == {"0": 0.25, "1": 0.26}
    assert found["comparisons"][0]["mean"] == pytest.approx(-0.25)
    assert sum(text.startswith("failed: ") for text in found["said"]) == 4
    assert found["bootstrap"] == []


def test_without_a_figure_every_key_is_there(shell: Any) -> None:
    found = shell(PLAIN, lambda name: 0.5 if "/a" in name else "exit 1", code=1)
    b = found["by_name"]["b"]
    assert b["values"] == {"0": None, "1": None} and b["success"]["runs"] == 0
    assert found["comparisons"][0]["verdict"] == "not tested"
    assert [b[key] for key in ("n", "mean", "standard_deviation", "interval")] == [0, *[None] * 3]


def test_an_undefined_metric_is_no_number(tmp_path: Path) -> None:
    """COCO writes -1 for the AP of a class without boxes; a loss of -1 is one."""
    (tmp_path / "metrics.jsonl").write_text(
        '{"step": 1, "validation/AP/zero": -1.0, "validation/loss": -1.0, "validation/AP": 0}\n'
    )
    assert last_metric(tmp_path, "AP/zero") is None
    assert last_metric(tmp_path, "loss") == -1 and last_metric(tmp_path, "AP") == 0


def tuned(name: str) -> float:
    """a gains .1 by tuning and b .2; a's two seeds differ by .01, and b's by .03."""
    second = name.endswith("seed1")
    if name.startswith("tuning/"):
        return 0.2 if "lr=0.25" in name else 0.1
    own = {"a": 0.3, "a_tuned": 0.4, "b": 0.25, "b_tuned": 0.45}[name.split("/")[1]]
    return own + (0.03 if name.split("/")[1].startswith("b") else 0.01) * second


def but(folder: str, instead: str) -> Figure:
    """`tuned`, with a shell command in place of the trainings in a folder."""
    return lambda name: instead if name.startswith(folder) else tuned(name)


def test_the_correction_is_over_like_with_like(shell: Any) -> None:
    """b less a, and tuned less tuned: of .465 and .405; never tuned less untuned."""
    found = shell(TUNE, tuned, code=1)
    untuned, both = found["comparisons"]
    names = [one["contrast"]["name"] for one in (untuned, both)]
    assert names == ["b - a", "b_tuned - a_tuned"]
    assert (untuned["mean"], both["mean"]) == pytest.approx((-0.04, 0.06))
    for one in (untuned, both):
        assert one["test"]["p"] == pytest.approx(2 * one["test"]["p_alone"])


def test_a_loss_that_is_not_finite_at_the_end_is_an_outcome(shell: Any) -> None:
    """As of a run that diverged: without it the good seeds of b alone would be tested."""

    def figure(name: str) -> str:
        loss = "null" if name == "runs/b/seed1" else "0.5" if name[-1] == "0" else "0.625"
        line = f'{{"step": 1, "epoch": 1.0, "validation/loss": {loss}}}'
        return f"echo {shlex.quote(line)} > metrics.jsonl"

    found = shell(PLAIN + "metric: loss\n", figure, code=1)
    b = found["by_name"]["b"]
    assert (b["not_finite"], b["diverged"], b["n"]) == ([1], [], 1)
    (untested,) = found["comparisons"]
    assert untested["untested"].startswith("a run of b has no value") and untested["values"] == {}


def test_a_diverged_run_is_an_outcome(shell: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """b diverges from seed 1, which gives 0 where a has .51; the mean of b is that of .25 and 0."""

    def fails(name: str) -> float | str:
        return "mkdir failure; exit 1" if "/b/seed1" in name else by_seed(0.5, 0.25)(name)

    monkeypatch.setattr(command, "bootstraps", lambda *args: [])
    text, diagnosis = (
        PLAIN.replace("variants", "metrics: [AP]\nvariants"),
        'mkdir -p "$0/diagnosis/last"',
    )
    shell(text, fails, diagnosis=diagnosis)
    # not tried again, until it succeeds
    found = shell(text, lambda name: 1.0, diagnosis=diagnosis)
    assert sum(said.startswith("diverged, an outcome") for said in found["said"]) == 1
    b = found["by_name"]["b"]
    assert b["values"] == {"0": 0.25, "1": None} and b["diverged"] == [1]
    assert (b["n"], b["mean"]) == (2, 0.125)
    assert b["success"] == {"runs": 2, "succeeded": 1, "mean": 0.25}
    assert found["comparisons"][0]["values"] == {"0": -0.25, "1": -0.51}
    assert b["figures"] == {"AP": {"0": 0.25, "1": None}}
    (table,) = [text for text in found["said"] if text.startswith("| variant")]
    assert "| b | 0.125 | −1.463 to 1.713 | 1 of 2 | 0.250 |" in table


@pytest.mark.parametrize("gone", ["tuning/a/", "tuning/b/"])
def test_where_all_trials_diverged_nothing_is_called_tuned(shell: Any, gone: str) -> None:
    for _ in range(2):  # the second call knows it from the folders
        found = shell(TUNE, but(gone, "mkdir failure; exit 1"), code=1)
        variant = found["by_name"][gone[-2]]
        assert variant["tuning"]["chosen"] is None and variant["tuning"]["tuned_variant"] is None
        (both,) = [c for c in found["comparisons"] if "_tuned" in c["contrast"]["name"]]
        assert both["verdict"] == "not tested" and both["values"] == {}
        trials = [name for name in found["seconds"] if name.startswith(gone)]
        assert len(trials) == 2 and found["failed_trials"] == []
    assert [found["seconds"][name] for name in trials] == [None, None]


def test_runs_of_an_earlier_choice_are_not_reported_under_a_later_one(
    shell: Any, tmp_path: Path
) -> None:
    """A trial that was deleted and trained again may make another one the best."""
    shell(TUNE, tuned, code=1)
    file = tmp_path / "out" / "runs" / "a_tuned" / "seed0" / "environment.json"
    file.write_text(json.dumps({"command": ["train", "--set", "optimizer.lr=0.25"]}))
    shell(TUNE, tuned, code=1)
    file.write_text(json.dumps({"command": ["train", "--set", "optimizer.lr=0.5"]}))
    with pytest.raises(InputError, match=r"of a choose optimizer\.lr=0\.25 today, .*; delete"):
        shell(TUNE, tuned)


@pytest.mark.parametrize("folder", ["runs/a/seed0", "tuning/a/lr=1/seed1000"])
def test_data_that_changed_since_a_run_are_refused(
    folder: str, finished: Path, tmp_path: Path
) -> None:
    last = tmp_path / folder / "checkpoints" / "last.pt"
    shutil.copytree(finished, tmp_path / folder)
    check_unchanged(tmp_path)
    state = torch.load(last, weights_only=True)
    torch.save({**state, "data": {**state["data"], "boxes": "7"}}, last)
    with pytest.raises(
        InputError, match=rf"{folder}: .* with 7, and \S+train\.json holds \d+ boxes"
    ):
        check_unchanged(tmp_path)
    last.write_text("half of a file")
    check_unchanged(tmp_path)


def test_a_run_that_met_other_data_gives_no_results(
    shell: Any, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The files may change while the sweep goes on."""
    odd = Path(shutil.copytree(finished, tmp_path / "odd"))
    state = torch.load(odd / "checkpoints" / "last.pt", weights_only=True)
    torch.save({**state, "data": {**state["data"], "boxes": "7"}}, odd / "checkpoints" / "last.pt")

    monkeypatch.setattr(ablation_checks, "data_identity", lambda train, val: state["data"])

    def figure(name: str) -> float | str:
        return f"cp -r {shlex.quote(str(odd))}/. ." if name == "runs/b/seed1" else 0.5

    with pytest.raises(InputError, match="b/seed1: it was trained with 7, and"):
        shell(PLAIN, figure)
    assert not (tmp_path / "out" / "results.json").exists()


def test_a_trial_that_fails_otherwise_is_named(shell: Any) -> None:
    found = shell(TUNE, but("tuning/b/lr=0.5", "exit 5"), code=1)
    assert found["failed_trials"] == ["tuning/b/lr=0.5, seed 1000"]
    assert found["by_name"]["b"]["tuning"] is None and "b_tuned" not in found["by_name"]


def test_the_forecast_leaves_out_what_diverged(
    shell: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """2 x 2 trials, one of which diverged, and 2 x 2 runs: 7 are finished."""
    monkeypatch.setattr(ablation_runs, "_seconds_a_step", lambda config, placement: 1.0)
    ten = Schedule(rate=1, total_steps=10)
    monkeypatch.setattr(ablation_runs, "_schedule", lambda config, images: ten)
    plan = read(tmp_path, TUNE)
    said = forecast(plan, tmp_path / "out", Placement.of(plan, (), workers=2))
    assert said.startswith("8 runs of 10 steps, 8 of them to do: about 0:00:40")
    assert said.endswith("; up to 4 runs of tuned variants come on top")
    shell(TUNE, but("tuning/b/lr=0.5", "mkdir failure; exit 1"), code=1)
    said = forecast(plan, tmp_path / "out", alone(plan))
    assert said.startswith("8 runs of 10 steps, 0 of them to do: about 0:00:00")
    assert "by the 7 finished runs" in said
    assert "come on top" not in said


def test_the_pace_is_the_median_for_resumed_runs_know_only_their_last_part(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ten = Schedule(rate=1, total_steps=10)
    monkeypatch.setattr(ablation_runs, "_schedule", lambda config, images: ten)
    (tmp_path / "out").mkdir()
    seconds = {"a, seed 0": 20.0, "b, seed 0": 20.0, "a, seed 1": 0.5}
    (tmp_path / "out" / "state.json").write_text(json.dumps(seconds))
    plan = read(tmp_path, PLAIN)
    said = forecast(plan, tmp_path / "out", alone(plan))
    assert said.startswith("4 runs of 10 steps, 1 of them to do: about 0:00:20")


def test_a_deleted_folder_is_trained_again(shell: Any, tmp_path: Path) -> None:
    shell(PLAIN, by_seed(0.5, 0.25), code=1)
    shutil.rmtree(tmp_path / "out" / "runs" / "b" / "seed0")
    found = shell(PLAIN, by_seed(0.5, 0.75), code=1)
    assert found["by_name"]["b"]["values"] == {"0": 0.75, "1": 0.26}


def test_a_folder_without_its_journal_is_named(shell: Any, tmp_path: Path) -> None:
    shell(PLAIN, by_seed(0.5, 0.25), code=1)
    journal = tmp_path / "out" / "runs" / "b" / "seed0" / "metrics.jsonl"
    journal.unlink()
    with pytest.raises(InputError, match=f"{journal}: there is no such file; delete its folder"):
        shell(PLAIN, by_seed(0.5, 0.25), code=1)


def test_a_missing_seed_is_told_in_the_table(shell: Any) -> None:
    found = shell(PLAIN, lambda name: "exit 1" if "/b/seed1" in name else 0.5, code=1)
    assert any("\n| b (1 of 2 seeds) | 0.500 | " in text for text in found["said"])


def test_the_bootstrap_may_be_interrupted(
    shell: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*args: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(command, "bootstraps", interrupted)
    with pytest.raises(KeyboardInterrupt):
        shell(PLAIN, by_seed(0.5, 0.25))
    found = json.loads((tmp_path / "out" / "results.json").read_text())
    assert "bootstrap" not in found and found["variants"][0]["mean"] == pytest.approx(0.505)


def evaluated(name: str, images: int, found_in: int) -> Evaluated:
    """One box an image; found in the first ones."""
    box = [10.0, 10.0, 50.0, 40.0]
    truth = {
        "images": [{"id": i, "file_name": f"{i}"} for i in range(images)],
        "categories": [{"id": 1, "name": "c"}],
        "annotations": [
            {"id": i, "image_id": i, "category_id": 1, "iscrowd": 0, "bbox": box, "area": 2000.0}
            for i in range(1, images)
        ],
    }
    rows = np.array([(i, *box, 0.9, 1) for i in range(found_in)], float).reshape(-1, 7)
    return Evaluated(name, Path("d"), Path("t"), rows, truth, list(range(images)))


def test_the_bootstrap_leaves_out_runs_of_other_images(monkeypatch: pytest.MonkeyPatch) -> None:
    runs = {
        Path(name): evaluated(name, images, found)
        for name, images, found in (("a", 6, 5), ("b", 6, 3), ("c", 7, 5), ("d", 7, 4))
    }
    monkeypatch.setattr(ablation_results, "diagnosed_run", runs.__getitem__)
    said: list[str] = []
    found = ablation_results.bootstraps({(n, 0): Path(n) for n in "abcd"}, "a", said.append)
    (one,), expected = (
        found,
        bootstrap_comparison(runs[Path("a")], runs[Path("b")], resamples=1000, seed=0),
    )
    assert (one.variant, one.difference, one.p) == ("b", expected.difference, expected.p)
    assert one.interval == expected.interval
    (sentence,) = said
    assert sentence.startswith("no bootstrap of 2 of the runs, such as c, seed 0: ")
    assert "1 ids are in one" in sentence


def test_a_class_that_is_none_is_refused_before_the_first_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Index:
        category_names = ("zero", "one")
        annotations_file = Path("val.json")

    monkeypatch.setattr(build, "data_index", lambda config, split: Index)
    plan = read(tmp_path, f"metric: AP/ten\n{PLAIN}")
    with pytest.raises(InputError, match=r"val\.json has no class 'ten'; .* zero, one\.$"):
        command.ablate(plan, tmp_path / "out", placement=alone(plan), say=print)
    assert not (tmp_path / "out").exists()


def test_missing_data_are_found_before_the_first_run(tmp_path: Path, tiny: list[str]) -> None:
    plan = read(tmp_path, PLAIN, *tiny, f"data.val.annotations={tmp_path}/gone.json")
    with pytest.raises(InputError, match=r"variant 'a': .*gone\.json"):
        command.ablate(plan, tmp_path / "out", placement=alone(plan), say=print)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("ablation.json", "{", "it is not whole JSON"),
        ("ablation.json", "[]", "a JSON object with ablation and command and identity"),
        ("state.json", "{", "it is not whole JSON .*: delete it, and what is finished is only"),
    ],
)
def test_a_broken_file_of_the_folder(
    tmp_path: Path, tiny: list[str], name: str, text: str, said: str
) -> None:
    plan, output = read(tmp_path, PLAIN, *tiny), tmp_path / "out"
    output.mkdir()
    mark = {"ablation": "x.yaml", "command": ["x"], "identity": plan.identity()}
    (output / "ablation.json").write_text(json.dumps(mark))
    (output / name).write_text(text)
    with pytest.raises(InputError, match=f"{name}: .*{said}"):
        command.ablate(plan, output, placement=alone(plan), say=print)


def test_a_dry_run_looks_at_whose_folder_it_is(tool: Command, tmp_path: Path) -> None:
    file = HOME / "configs" / "ablations" / "poly.yaml"
    mark = {"ablation": "x.yaml", "command": ["x", "y z"], "identity": {"a: optimizer.lr": 7}}
    (tmp_path / "ablation.json").write_text(json.dumps(mark))
    done = tool("ablate", "--config", file, "--output", tmp_path, "--dry-run")
    assert done.returncode == 2
    said = f"{tmp_path}: it holds other runs, of x.yaml: a: optimizer.lr is 7 there and the default"
    assert said in done.stderr and "go on with x 'y z', or name another --output" in done.stderr


def test_the_folder_remembers_what_made_it(shell: Any, tmp_path: Path) -> None:
    found = shell(PLAIN, by_seed(0.5, 0.25), code=1)
    file, output = tmp_path / "ablation.yaml", tmp_path / "out"
    assert found["ablation"] == str(file)
    command = f"detector ablate --config {file} --output {output}"
    page = (output / "report.html").read_text()
    assert command in page and f"<dd>{file}</dd>" in page
    with pytest.raises(
        InputError,
        match=r"b: loss\.\S*gamma is 1.0 there and 3.0 here; put it back, and go on with",
    ):
        shell(PLAIN.replace("gamma=1", "gamma=3"), by_seed(0.5, 0.25))
    with pytest.raises(
        InputError, match=r"b: \S*alpha is the default there and null here; put it back"
    ):
        shell(PLAIN.replace("gamma=1", "gamma=1, loss.classification.alpha=null"), by_seed(0.5, 0))


def test_a_call_that_runs_nothing_keeps_the_account(
    shell: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, "bootstraps", lambda *args: [])
    diagnosis = 'mkdir -p "$0/diagnosis/last"'
    first, again = (
        shell(PLAIN, by_seed(0.5, 0.25), diagnosis=diagnosis)["runner"] for _ in range(2)
    )
    assert first["busy"] > 0 and again == first


@pytest.mark.parametrize("place", ["ablation.yaml", "ablation.yaml/below", "results.json/x"])
def test_an_output_that_cannot_be_one(
    tool: Command, tmp_path: Path, tiny: list[str], place: str
) -> None:
    (tmp_path / "results.json").write_text("")
    read(tmp_path, PLAIN)
    words = ["--config", tmp_path / "ablation.yaml", "--output", tmp_path / place, "--set", *tiny]
    done = tool("ablate", *words)
    assert done.returncode == 2 and done.stderr.startswith("error: ") and place in done.stderr


def test_a_dry_run_finds_what_the_sweep_would(
    tool: Command, tmp_path: Path, tiny: list[str]
) -> None:
    read(tmp_path, f"metric: AP/ten\n{PLAIN}")
    words = ["--config", tmp_path / "ablation.yaml", "--output", tmp_path / "out", "--dry-run"]
    done = tool("ablate", *words, "--set", *tiny)
    assert done.returncode == 2 and "-m detector train " in done.stdout
    assert "ablation.yaml: metric: found 'AP/ten'" in done.stderr


def test_a_dry_run_is_careful_about_losses(tmp_path: Path) -> None:
    plan = read(tmp_path, f"metric: loss\n{PLAIN}")
    said = "careful: loss measures another thing under other values of loss.classification.gamma"
    assert said in ablation_runs.describe(plan, tmp_path / "out", alone(plan)).splitlines()
