"""From a config's words to the loss, and what a checkpoint keeps of it."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
from loss_cases import example, logits_for

from detector import build
from detector.commands.evaluate import Trained
from detector.commands.train import Assembly
from detector.config import parse
from detector.errors import InputError
from detector.loss.class_weights import ClassWeighted, effective_number_weights
from detector.loss.detection import DetectionLoss
from detector.loss.equalized import Equalized
from detector.loss.focal import Focal
from detector.loss.ghm import GHMC
from detector.loss.iou_aware import QualityFocal, Varifocal
from detector.loss.leaf import Leaf
from detector.loss.poly import Poly1
from detector.loss.smoothing import Smoothed

HOME = Path(__file__).parents[2]
LOSS = "validation/loss/classification"


def criterion(keys: str, counts: Sequence[int] | None = None) -> DetectionLoss:
    config = parse(f"loss: {{classification: {{{keys}}}}}", "exp.yaml")
    boxes = None if counts is None else torch.tensor(counts)
    return build.criterion(config, build.class_code(config, 3), boxes)


@pytest.mark.parametrize(
    ("keys", "leaf"),
    [
        ("", Focal(alpha=0.25, gamma=2)),
        ("alpha: null, gamma: 0", Focal(alpha=None, gamma=0)),
        ("poly: -1", Poly1(epsilon=-1, alpha=0.25, gamma=2)),
        ("poly: 0", Poly1(epsilon=0, alpha=0.25, gamma=2)),
        ("smoothing: 0.1", Smoothed(leaf=Focal(), epsilon=0.1)),
        (
            "smoothing: 0.1, poly: 1, gamma: 0, alpha: null",
            Smoothed(leaf=Poly1(epsilon=1), epsilon=0.1),
        ),
        ("leaf: quality_focal, alpha: null", QualityFocal()),
        ("leaf: varifocal, gamma: 1", Varifocal(gamma=1)),
    ],
)
def test_a_leaf_from_its_words(keys: str, leaf: Leaf) -> None:
    assert criterion(keys).classification.leaf == leaf


def test_leaves_that_keep_numbers() -> None:
    ghm = criterion("leaf: ghm, gamma: 0, alpha: null, ghm: {bins: 7}").classification.leaf
    assert isinstance(ghm, GHMC) and (ghm.bins, ghm.momentum) == (7, 0.75)
    both = criterion("leaf: varifocal, class_weights: [1, 2, 3], equalization: 0.2", [90, 9, 1])
    gate = both.classification.leaf
    assert isinstance(gate, Equalized) and gate.rare.tolist() == [0, 1, 1]
    assert isinstance(gate.leaf, ClassWeighted) and gate.leaf.weights.tolist() == [1, 2, 3]
    assert gate.leaf.leaf == Varifocal() and gate.reads_quality


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ("leaf: ghm", "set gamma to 0, alpha to null and sampling to {kind: all}"),
        ("leaf: ghm, gamma: 0", "set gamma to 0, alpha to null"),
        ("leaf: ghm, gamma: 0, alpha: null, sampling: {kind: ohem}", "sampling to {kind: all}"),
        ("leaf: ghm, gamma: 0, alpha: null, smoothing: 0.1", "the leaf is ghm: set poly to null"),
        ("leaf: varifocal, poly: 1", "the leaf is varifocal: set poly to null"),
        ("leaf: quality_focal, activation: softmax, background: class", "activation to sigmoid"),
        ("leaf: varifocal, background: class", "set background to negatives or ignored"),
        ("equalization: 0.1, activation: softmax, background: class", "set activation to sigmoid"),
        ("class_weights: [1], effective_number: 0.9", "set one of them to null"),
        ("class_weights: []", "found []"),
        ("class_weights: [1, 0]", "class_weights.1: found 0, it should be greater than 0"),
        ("effective_number: 1", "it should be less than 1"),
        ("smoothing: 1", "it should be less than 1"),
        ("poly: -2", "it should be greater than or equal to -1"),
        ("leaf: gmh", "did you mean 'ghm'?"),
        ("class_weights: [1, 2]", "has 2 numbers, and the annotations have 3 classes"),
    ],
)
def test_what_makes_no_sense_is_refused_in_one_sentence(keys: str, words: str) -> None:
    with pytest.raises(InputError) as refusal:
        criterion(keys)
    assert words in str(refusal.value) and "\n" not in str(refusal.value)


def test_class_weights_do_not_need_the_data_to_be_loaded() -> None:
    key = "loss.classification.class_weights=[1, 2]"
    loaded = build.load_config(HOME / "configs/digits.yaml", [key])
    assert loaded.loss.classification.class_weights == (1, 2)


@pytest.mark.parametrize("keys", ["effective_number: 0.9", "equalization: 0.2"])
def test_weights_come_from_training_boxes_or_from_the_checkpoint(keys: str) -> None:
    """Without either they are not a number, and no figure can come of them unnoticed."""
    targets = example()
    trained, other = criterion(keys, [90, 9, 1]).classification, criterion(keys).classification
    logits = logits_for(targets, trained.code)
    losses = trained(logits, targets)
    assert losses.isfinite().all() and other(logits, targets).isnan().any()
    other.load_state_dict(trained.state_dict())
    assert other(logits, targets).equal(losses)


def test_boxes_are_counted_in_the_training_data(tiny: list[str], digits: Path) -> None:
    truth = json.loads((digits / "annotations/train.json").read_text())["annotations"]
    counts = torch.tensor([sum(a["category_id"] == k for a in truth) for k in range(1, 11)])
    changes = [*tiny, "loss.classification.effective_number=0.9"]
    config = build.load_config(HOME / "configs/digits.yaml", changes)
    loss = Assembly(config, Path("unused"), torch.device("cpu")).step.criterion
    expected = effective_number_weights(counts, beta=0.9).float()
    torch.testing.assert_close(loss.classification.leaf.weights, expected)


def test_a_run_is_evaluated_with_the_weights_that_it_was_trained_with(
    tool: Callable[..., object], tiny: list[str], tmp_path: Path
) -> None:
    """The training data may be gone; another number of bins is refused in one sentence."""
    ghm = "loss.classification={leaf: ghm, gamma: 0, alpha: null, effective_number: 0.9}"
    words = [word for change in [*tiny, "schedule.steps=2", ghm] for word in ("--set", change)]
    run = tmp_path / "run"
    tool("train", "--config", HOME / "configs/digits.yaml", *words, "--output", run)
    gone = ["data.train.images=null", "data.train.annotations=null"]
    trained = Trained.from_run(run, "last", gone)
    leaf = trained.criterion.classification.leaf
    assert leaf.weights.isfinite().all() and leaf.weights.std() > 0
    assert leaf.leaf.shares.sum().item() == pytest.approx(1, abs=0.2)
    lines = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    (noted,) = (x[LOSS] for x in lines if LOSS in x)
    found = trained.evaluator(trained.validation()).run(trained.net).losses["loss/classification"]
    assert found == pytest.approx(noted, rel=1e-5)
    with pytest.raises(InputError, match="evaluate it with the run's own loss"):
        Trained.from_run(run, "last", [*gone, "loss.classification.ghm.bins=10"])
