"""Own pieces, from outside the package: the files and keys that the guide shows, as they stand."""

import json
import re
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
import yaml
from conftest import HOME

from detector import build
from detector.cli.train import train
from detector.config import load, parse
from detector.engine.own_pieces import _check_targets
from detector.errors import InputError
from detector.structures import Batch, Targets

GUIDE = (HOME / "docs" / "guide.md").read_text()
FILE_AND_KEYS = re.compile(r"```python\n# (\w+\.py)[^\n]*\n(.*?)```.*?```yaml\n(.*?)```", re.S)
EXAMPLES = {name: (code, keys) for name, code, keys in FILE_AND_KEYS.findall(GUIDE)}
CHANGED = {
    "my_loss.py": "loss.classification.slope=3",
    "my_matching.py": "matching.share=0.25",
    "my_sampler.py": "loss.classification.sampling.above=1e-7",
}


@pytest.mark.parametrize("name", CHANGED)
def test_an_own_piece_trains_and_its_key_changes_the_loss(
    name: str, tiny: Sequence[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first loss is that of the untrained network, and differs by the key alone."""
    monkeypatch.syspath_prepend(tmp_path)
    code, keys = EXAMPLES[name]
    (tmp_path / name).write_text(code)
    file = tmp_path / "mine.yaml"
    file.write_text(
        yaml.safe_dump({"base": [str(HOME / "configs/digits.yaml")], **yaml.safe_load(keys)})
    )

    def first_loss(folder: str, *changes: str) -> float:
        config = load(file, [*tiny, "schedule.steps=1", *changes])
        run = tmp_path / folder
        assert train(config, run, resume=False, command=[]) == 0
        assert parse((run / "config.yaml").read_text(), "written") == config
        return json.loads((run / "metrics.jsonl").read_text().splitlines()[0])[
            "loss/classification"
        ]

    assert first_loss("shown") != first_loss("changed", CHANGED[name])


WRONG = """
import sys
import torch
from detector import ElementwiseLoss, ElementwiseSettings, MatchingSettings, SamplerSettings

class Made:
    def __init__(self, what):
        self.what = what

    def weights(self, losses, targets, trainable):
        return self(losses)

    def observe(self, chunks):
        return

    reads_quality = known_before = False

    def __call__(self, first, *others):
        given = first if isinstance(first, torch.Tensor) else first.log_p
        if self.what == "raise":
            raise RuntimeError("boo")
        if self.what == "exit":
            sys.exit(0)
        return {"none": None, "sum": given.sum(), "detached": given.detach(), "twos": given * 0 + 2,
                "whole": given.detach().long(), "nan": given * float("nan"),
                "steep": (given - given.max()).abs().sqrt()}[self.what]

class Loss(ElementwiseSettings):
    kind: str = "wrong_of_a_test:Loss"
    what: str

    def elementwise(self):
        return None if self.what == "nothing" else Made(self.what)

class Assign(MatchingSettings):
    kind: str = "wrong_of_a_test:Assign"
    what: str

    def assignment(self, anchor_generator, *, multi_label):
        return None if self.what == "nothing" else Made(self.what)

class Sampling(SamplerSettings):
    kind: str = "wrong_of_a_test:Sampling"
    what: str

    def sampler(self):
        return None if self.what == "nothing" else Made(self.what)
"""
LOSS, ASSIGN, SAMPLE = (
    ("loss.classification={kind: 'wrong_of_a_test:Loss', what: %s}"),
    ("matching={kind: 'wrong_of_a_test:Assign', what: %s}"),
    ("loss.classification.sampling={kind: 'wrong_of_a_test:Sampling', what: %s}"),
)


@pytest.mark.parametrize(
    ("key", "what", "words"),
    [
        (LOSS, "raise", "loss.classification: wrong_of_a_test:Made failed with RuntimeError: boo"),
        (LOSS, "exit", "failed with SystemExit: 0"),
        (LOSS, "none", "returned NoneType; expected a tensor of the shape of terms.log_p"),
        (LOSS, "sum", "returned shape (); expected"),
        (LOSS, "detached", "returned shape (3, 10) without a gradient; expected"),
        (LOSS, "nan", "wrong_of_a_test:Made gave a cost that is not finite"),
        (LOSS, "steep", "gave a gradient that is not finite"),
        (LOSS, "nothing", "loss.classification: elementwise() returned None"),
        (ASSIGN, "raise", "matching: wrong_of_a_test:Made failed with RuntimeError: boo"),
        (ASSIGN, "none", "matching: wrong_of_a_test:Made returned NoneType; expected Targets"),
        (ASSIGN, "nothing", "matching: assignment() returned None"),
        (SAMPLE, "raise", "loss.classification.sampling: wrong_of_a_test:Made failed with"),
        (SAMPLE, "none", "should return weights 0 or 1"),
        (SAMPLE, "twos", "should return weights 0 or 1"),
        (SAMPLE, "whole", "should return weights 0 or 1"),
        (SAMPLE, "nothing", "loss.classification.sampling: sampler() returned None"),
    ],
)
def test_an_own_piece_that_fails_is_one_sentence_before_the_run(
    key: str, what: str, words: str, tiny: Sequence[str], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "wrong_of_a_test.py").write_text(WRONG)
    with pytest.raises(InputError) as refusal:
        config = build.load_config(HOME / "configs/digits.yaml", [*tiny, key % what])
        train(config, tmp_path / "run", resume=False, command=[])
    assert words in str(refusal.value) and "\n" not in str(refusal.value)
    assert not (tmp_path / "run" / "config.yaml").exists()


def test_an_own_assignment_points_at_boxes(tmp_path: Path) -> None:
    """An index of padding, of a crowd, or beyond the boxes is none."""
    boxes = torch.tensor([[[0.0, 0, 8, 8], [4, 4, 12, 12], [0, 0, 0, 0]]])
    no, yes = torch.zeros(1, 3, dtype=torch.bool), torch.tensor([[True, True, False]])
    batch = Batch(
        images=torch.zeros(1, 3, 16, 16, dtype=torch.uint8), sizes=torch.tensor([[16, 16]]),
        original_sizes=torch.tensor([[16, 16]]), image_ids=torch.tensor([1]),
        keys=torch.tensor([0]), boxes=boxes, labels=no[..., None], present=yes,
        crowd=torch.tensor([[False, True, False]]),
    )  # fmt: skip
    anchors = torch.zeros(2, 4)
    for index in (0, -1, -2):
        matches = torch.tensor([[0, index]])
        _check_targets("x", Targets(anchors, matches, boxes, batch.labels, batch.keys), batch)
    for index in (1, 2, 3, -7):
        matches = torch.tensor([[0, index]])
        with pytest.raises(InputError, match="no index of a box"):
            _check_targets("x", Targets(anchors, matches, boxes, batch.labels, batch.keys), batch)
