"""An ablation in parts, whose trainings are shell commands, and the parts taken together."""

import json
import shlex
import shutil
from pathlib import Path
from typing import Any

import pytest
from conftest import HOME
from hypothesis import given
from hypothesis import strategies as st

from detector import build
from detector.cli import ablate as command
from detector.cli import ablation_merge, ablation_runs
from detector.config import Config
from detector.errors import InputError
from detector.lab.placement import Placement, Shard
from detector.lab.plan import Plan

TEXT = """config: {config}
seeds: [0, 1]
baseline: a
variants:
  a: {{set: [loss.classification.gamma=0], tune: {{optimizer.lr: [0.25, 0.5]}}}}
  b: {{set: [loss.classification.gamma=1]}}
  c: {{set: [loss.classification.gamma=3]}}
"""
ENVIRONMENT = {
    "detector": "1", "git": "abc", "torch": "2", "torchvision": "1", "processes": 1, "gpus": [],
}  # fmt: skip


class Lab:
    """Runs the ablation, or a part of it, in folders of its own."""

    def __init__(self, folder: Path, plan: Plan) -> None:
        self.folder = folder
        self.plan = plan
        self.said: list[str] = []

    def run(self, name: str, shard: str = "1/1", *sources: str) -> int:
        self.said = []
        return command.ablate(
            self.plan,
            self.folder / name,
            placement=Placement.of(self.plan, (), workers=1),
            say=self.said.append,
            shard=Shard.parse(shard),
            sources=[self.folder / source for source in sources],
        )

    def runs(self, name: str) -> set[str]:
        """All that are there, finished or not."""
        folder = self.folder / name
        return {p.parent.relative_to(folder).as_posix() for p in folder.rglob("environment.json")}

    def values(self, name: str) -> dict[str, Any]:
        found = json.loads((self.folder / name / "results.json").read_text())
        return {variant["name"]: variant["values"] for variant in found["variants"]}


def training(plan: Plan, seed: int, folder: Path, changes: tuple[str, ...]) -> tuple[str, ...]:
    """AP is .1 x gamma + .01 x seed, for a tuned rate of .5 .2 more; its start is a random text."""
    rate = 0.2 * ("optimizer.lr=0.5" in changes)
    gamma = next(c[-1] for c in changes if "gamma" in c)
    ap = 0.1 * int(gamma) + 0.01 * seed + rate
    data = {"images": "9", "boxes": "9", "validation": "9"}
    files = {
        "config.yaml": Config().to_yaml(),
        "data.json": json.dumps(data),
        "metrics.jsonl": json.dumps({"step": 1, "epoch": 1.0, "validation/AP": ap}),
    }
    script = f"mkdir -p {shlex.quote(str(folder))}/checkpoints && cd {shlex.quote(str(folder))} && "
    script += "".join(f"echo {shlex.quote(text)} > {name} && " for name, text in files.items())
    start = json.dumps({**ENVIRONMENT, "command": changes})[:-1] + ', "started": "'
    script += f"(printf '%s' {shlex.quote(start)}; od -An -N8 -tx8 /dev/urandom | tr -d ' \\n'; "
    script += "printf '\"}') > environment.json && echo weights > checkpoints/last.pt"
    return ("sh", "-c", script)


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lab:
    monkeypatch.setattr(command, "check_data", lambda plan: None)
    monkeypatch.setattr(command, "write_ablation_page", lambda ablation: ablation.path)
    monkeypatch.setattr(command, "bootstraps", lambda *words: [])
    monkeypatch.setattr(build, "data_index", lambda config, part: range(100))
    monkeypatch.setattr(ablation_runs, "_training", training)
    monkeypatch.setattr(
        ablation_runs, "_diagnosis", lambda run: ("mkdir", "-p", f"{run}/diagnosis/last")
    )
    monkeypatch.setattr(
        ablation_merge,
        "last_state",
        lambda run: (data := json.loads((run / "data.json").read_text())) and {"data": data},
    )
    file = tmp_path / "ablation.yaml"
    file.write_text(TEXT.format(config=HOME / "configs" / "digits.yaml"))
    return Lab(tmp_path, Plan.read(file, [], load=build.load_config))


@given(st.integers(1, 12), st.integers(0, 40))
def test_shards_are_disjoint_and_complete(n: int, count: int) -> None:
    runs: list[Any] = [*range(count)]
    parts = [Shard(k, n).of(runs) for k in range(1, n + 1)]
    assert sorted(run for part in parts for run in part) == runs
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


@pytest.mark.parametrize("text", ["0/4", "5/4", "1", "1/0", "a/b", "-1/4", "1/4/5"])
def test_shards_that_are_none(text: str) -> None:
    with pytest.raises(InputError, match=f"--shard is {text}; it should be K/N"):
        Shard.parse(text)


def test_parts_taken_together_are_the_whole(lab: Lab) -> None:
    """2 trials and 6 runs in three shards; the 2 tuned runs when all trials are known."""
    for k in (1, 2, 3):
        assert lab.run(f"part{k}", f"{k}/3") == 0
        assert not (lab.folder / f"part{k}" / "results.json").exists()
    parts = [lab.runs(f"part{k}") for k in (1, 2, 3)]
    assert [len(part) for part in parts] == [3, 3, 2] and len(set.union(*parts)) == 8
    assert lab.run("whole", "1/1", "part1", "part2", "part3") == 1
    assert any(text.startswith("not done: 2 runs, the first a_tuned, seed 0") for text in lab.said)
    assert not (lab.folder / "whole" / "results.json").exists()
    assert lab.run("whole", "1/1", "part1", "part2", "part3") == 1  # nothing is copied again
    assert lab.said[0] == "took in 0 runs of 3 folders"
    # the rest on two machines, from the trials of all
    for k in (1, 2):
        assert lab.run(f"rest{k}", f"{k}/2", "whole") == 0
        assert f"runs/a_tuned/seed{k - 1}" in lab.runs(f"rest{k}")
    assert lab.run("whole", "1/1", "rest1", "rest2") == 0
    assert lab.run("alone") == 0
    assert lab.values("whole") == lab.values("alone")
    found = json.loads((lab.folder / "whole" / "results.json").read_text())
    assert [(c["name"], c["planned"]) for c in found["contrasts"]] == [
        ("b - a", True), ("c - a", True),
    ]  # fmt: skip
    assert lab.values("whole")["a_tuned"] == {"0": 0.2, "1": pytest.approx(0.21)}


def test_what_is_merged_is_a_copy_but_for_the_weights(lab: Lab) -> None:
    lab.run("part", "1/8")
    lab.run("whole", "1/1", "part")
    run = "tuning/a/lr=0.25/seed1000"
    before, now = (lab.folder / name / run for name in ("part", "whole"))
    for file, linked in (("metrics.jsonl", False), ("checkpoints/last.pt", True)):
        assert (now / file).samefile(before / file) == linked
        assert (now / file).read_text() == (before / file).read_text()
    assert now.with_name("seed1000.log").exists()


def change(file: Path, key: str, value: object) -> None:
    """A key, and of the design one of its own keys; a new file begins as the environment."""
    content = json.loads(file.read_text()) if file.exists() else ENVIRONMENT
    if key == "design":
        value = content[key] | value
    file.write_text(json.dumps(content | {key: value}))


@pytest.mark.parametrize(
    ("file", "key", "value", "said"),
    [
        ("runs/a/seed0/environment.json", "git", "xyz", 'other code .* git is "abc" .* "xyz" here'),
        ("runs/a/seed0/environment.json", "gpus", ["H100"], "GPU is false there and true here"),
        (
            "runs/a/seed0/environment.json",
            "git",
            "abc+",
            "trained by abc\\+, a checkout with changes",
        ),
        (
            "runs/a/seed0/environment.resumed_at_5.json",
            "git",
            "xyz",
            'resumed by other code .*"xyz"',
        ),
        ("runs/a/seed0/data.json", "boxes", "8", "the images or boxes of its data were others"),
        ("ablation.json", "design", {"contrasts": ["a - c"]}, "it declared a - c as well"),
        ("ablation.json", "identity", {"a: train.ema": 0.5}, "it holds other runs, of .*a: train"),
        ("ablation.json", "design", {"seeds": [0]}, r"another design: seeds is \[0\] there"),
    ],
)
def test_refused(lab: Lab, file: str, key: str, value: object, said: str) -> None:
    """Of the shards' first runs: the trials; and the third, a with seed 0."""
    lab.run("one", "1/8")
    lab.run("other", "3/8")
    change(lab.folder / "other" / file, key, value)
    with pytest.raises(InputError, match=said):
        lab.run("whole", "1/1", "one", "other")
    assert not lab.runs("whole")


def test_a_run_that_diverged_before_a_checkpoint_is_taken_in(lab: Lab) -> None:
    """Its data were not saved, which is no sign of others."""
    lab.run("one", "1/8")
    lab.run("other", "3/8")
    run = lab.folder / "other" / "runs" / "a" / "seed0"
    (run / "data.json").write_text("null")
    (run / "failure").mkdir()
    change_state(lab.folder / "other", "a, seed 0")
    assert lab.run("whole", "1/1", "one", "other") == 1
    assert "runs/a/seed0" in lab.runs("whole")


def change_state(folder: Path, gone: str) -> None:
    state = json.loads((folder / "state.json").read_text())
    del state[gone]
    (folder / "state.json").write_text(json.dumps(state))


def test_a_half_done_run_is_not_called_finished(lab: Lab) -> None:
    """A folder was copied to another machine, which finished its runs."""
    lab.run("whole", "3/8")
    shutil.copytree(lab.folder / "whole", lab.folder / "copy")
    change_state(lab.folder / "whole", "a, seed 0")
    with pytest.raises(InputError, match=r"whole/runs/a/seed0: it is not finished, and .* is"):
        lab.run("whole", "1/1", "copy")


def test_two_runs_of_one_name_are_refused(lab: Lab) -> None:
    lab.run("one", "1/8")
    lab.run("other", "1/8")
    with pytest.raises(InputError, match=r"other/tuning\S*: \S*one/tuning\S* is another run of"):
        lab.run("whole", "1/1", "one", "other")


def test_folders_that_cannot_be_merged(lab: Lab) -> None:
    with pytest.raises(InputError, match=r"--merge \S*gone: it is no folder of detector ablate"):
        lab.run("whole", "1/1", "gone")
    assert not (lab.folder / "gone").exists()
    lab.run("one", "1/8")
    for sources in (("one", "./one"), ("whole",)):
        with pytest.raises(InputError, match="it is named twice, or is the --output"):
            lab.run("whole", "1/1", *sources)
    shutil.rmtree(lab.folder / "one" / "tuning" / "a" / "lr=0.25")  # deleted: it is not finished
    assert lab.run("whole", "1/1", "one") == 1 and not lab.runs("whole")
