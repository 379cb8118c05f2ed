"""What a detector takes from one of other classes, by numbers.

Weights of the last layer are 0 where a logit is a bias. The prior is 0.01, whose log-odds are
-log 99 = -4.595120; of two classes under softmax together, so -log 198 = -5.288267 each.
"""

import copy
import itertools
import math

import pytest
import torch
from torch import Tensor, nn

from detector.anchors.class_code import ClassCode
from detector.errors import InputError
from detector.model.backbone import AnyBackbone
from detector.model.initialize import initialize
from detector.model.retinanet import FPN, Head, RetinaNet
from detector.model.transfer import ClassChannels, Transfer, channels_by_name, transfer

CELLS = 3
CODES = [("sigmoid", "negatives"), ("sigmoid", "class"), ("softmax", "class")]
TOWERS = ["convolutions of the class head", "convolutions of the box head"]
BOX_LAST = "last layer of the box head"


class OneConvolution(AnyBackbone):
    """Weights to be copied; it is never called."""

    def __init__(self) -> None:
        super().__init__()
        self.channels = (4, 4, 4)
        self.body = nn.Conv2d(3, 4, 1)


def code(kind: tuple[str, str], num_classes: int = 2) -> ClassCode:
    activation, background = kind
    prior = None if background == "ignored" else 0.01
    return ClassCode(
        num_classes=num_classes, activation=activation, background=background, prior=prior
    )


def channels(names: str, kind: tuple[str, str] = CODES[0]) -> ClassChannels:
    return ClassChannels(names.split(), code(kind, len(names.split())))


def network(
    ours: ClassChannels, *, seed: int = 0, cells: int = CELLS, convs: int = 1, width: int = 8
) -> RetinaNet:
    backbone = OneConvolution()
    pyramid = FPN(backbone.channels, width, "c5")
    heads = [Head(width, width, convs, "none", out, cells) for out in (ours.code.channels, 4)]
    net = RetinaNet(backbone, pyramid, *heads)
    initialize(net, seed=seed, class_bias=ours.code.bias())
    return net


def with_biases(theirs: ClassChannels, *biases: float) -> dict[str, Tensor]:
    """A state whose anchors all have these logits."""
    state = network(theirs, seed=1).state_dict()
    state["class_head.last.weight"].zero_()
    state["class_head.last.bias"].copy_(torch.tensor(biases).repeat(CELLS))
    return state


def started(
    state: dict[str, Tensor], theirs: ClassChannels | None, ours: ClassChannels, **shape: int
) -> tuple[RetinaNet, Transfer]:
    net = network(ours, **shape)
    return net, transfer(net, state, theirs, ours, source="old.pt")


def biases(net: RetinaNet) -> Tensor:
    """Of the class channels; the same for every anchor."""
    rows = net.class_head.last.bias.detach().unflatten(0, (CELLS, -1))
    assert (rows == rows[0]).all()
    return rows[0]


SOFTMAX, SIGMOID = CODES[2], CODES[0]


def test_a_softmax_keeps_the_log_odds_of_a_sigmoid() -> None:
    """cat 2, dog -1; ours: dog and zebra. e^-1 = 0.367879 and 1/198 = 0.005051 against 1."""
    theirs, ours = channels("cat dog"), channels("dog zebra", SOFTMAX)
    net, taken = started(with_biases(theirs, 2, -1), theirs, ours)
    scores = ours.code.scores(biases(net))
    assert scores.tolist() == pytest.approx([0.267952, 0.003679], abs=1e-6)
    assert (taken.classes, taken.new_classes) == (["dog"], ["zebra", "background"])
    assert (taken.parts, taken.new_parts) == (["backbone", "FPN", *TOWERS, BOX_LAST], [])


def test_a_sigmoid_keeps_the_log_odds_of_a_softmax() -> None:
    """cat 2, dog -1, background 3: -1 and -4."""
    theirs, ours = channels("cat dog", SOFTMAX), channels("zebra dog cat")
    net, taken = started(with_biases(theirs, 2, -1, 3), theirs, ours)
    assert biases(net).tolist() == pytest.approx([-4.595120, -4, -1])
    assert (taken.classes, taken.new_classes) == (["dog", "cat"], ["zebra"])


def test_a_new_class_beside_a_copied_background_is_as_rare_as_its_prior() -> None:
    """Background 3 goes along as it is; zebra lies log 198 below it, not below its own start."""
    theirs, ours = channels("cat dog", SOFTMAX), channels("cat zebra", SOFTMAX)
    net, taken = started(with_biases(theirs, 2, -1, 3), theirs, ours)
    assert biases(net).tolist() == pytest.approx([2, 3 - 5.288267, 3])
    assert (taken.classes, taken.new_classes) == (["cat", "background"], ["zebra"])


def test_background_of_a_sigmoid_goes_to_a_sigmoid_alone() -> None:
    theirs = channels("cat dog", CODES[1])
    state = with_biases(theirs, 2, -1, 3)
    net, _ = started(state, theirs, channels("cat zebra", CODES[1]))
    assert biases(net).tolist() == pytest.approx([2, -4.595120, 3])
    net, taken = started(state, theirs, channels("cat zebra", SOFTMAX))
    assert taken.new_classes == ["zebra", "background"]
    # background keeps its first bias, log 198; cat stands 2 above it
    assert biases(net).tolist() == pytest.approx([2 + 5.288267, 0, 5.288267])


@pytest.mark.parametrize(("before", "after"), list(itertools.product(CODES, CODES)))
def test_log_odds_go_along(before: tuple[str, str], after: tuple[str, str]) -> None:
    """With random weights, at every anchor, in another order; the class that is new has its own."""
    theirs, ours = channels("ant bee cat", before), channels("cat dog ant", after)
    old, net = network(theirs, seed=1), network(ours)
    fresh = copy.deepcopy(net)
    transfer(net, old.state_dict(), theirs, ours, source="old.pt")

    def log_odds(one: RetinaNet, meaning: ClassCode) -> Tensor:
        rows = one.class_head.last.weight.detach().unflatten(0, (CELLS, -1))
        return (rows - meaning.reference(rows))[:, : meaning.num_classes]

    actual = log_odds(net, ours.code)
    torch.testing.assert_close(actual[:, [0, 2]], log_odds(old, theirs.code)[:, [2, 0]])
    torch.testing.assert_close(actual[:, 1], log_odds(fresh, ours.code)[:, 1])


@pytest.mark.parametrize("kind", [*CODES, ("sigmoid", "ignored"), ("softmax", "ignored")])
def test_the_same_classes_are_the_same_detector(kind: tuple[str, str]) -> None:
    """To the last bit, background included."""
    same = channels("cat dog", kind)
    old = network(same, seed=1)
    net, taken = started(old.state_dict(), same, same)
    for key, value in old.state_dict().items():
        assert torch.equal(net.state_dict()[key], value), key
    assert taken.new_classes == taken.new_parts == []


@pytest.mark.parametrize("ignored", [("sigmoid", "ignored"), ("softmax", "ignored")])
@pytest.mark.parametrize("other", CODES)
def test_what_never_saw_background_gives_no_channel(
    ignored: tuple[str, str], other: tuple[str, str]
) -> None:
    for before, after in ((ignored, other), (other, ignored)):
        theirs, ours = channels("cat dog", before), channels("cat dog", after)
        net, taken = started(network(theirs, seed=1).state_dict(), theirs, ours)
        assert taken.classes == [] and taken.new_parts == []
        assert torch.equal(biases(net), ours.code.bias())


def test_other_heads_are_new_and_the_rest_is_copied() -> None:
    same = channels("cat dog")
    old = network(same, seed=1, convs=2)
    net, taken = started(old.state_dict(), same, same)
    assert taken.parts == ["backbone", "FPN"] and taken.new_parts == [*TOWERS, BOX_LAST]
    assert taken.new_classes == ["cat", "dog"]
    expected = network(same).state_dict() | {
        key: value
        for key, value in old.state_dict().items()
        if key.startswith(("backbone.", "pyramid."))
    }
    for key, value in net.state_dict().items():
        assert torch.equal(value, expected[key]), key


def test_other_numbers_of_anchors_a_position() -> None:
    """The convolutions of both heads stay; 4 anchors of 3 classes are as many rows as 3 of 4."""
    theirs, ours = channels("ant bee cat"), channels("ant bee cat dog")
    old = network(theirs, seed=1, cells=4)
    net, taken = started(old.state_dict(), theirs, ours)
    assert taken.parts == ["backbone", "FPN", *TOWERS]
    assert taken.new_parts == [BOX_LAST] and taken.classes == []
    assert torch.equal(net.class_head.convs[0][0].weight, old.class_head.convs[0][0].weight)
    assert torch.equal(net.box_head.last.weight, network(ours).box_head.last.weight)
    assert biases(net).tolist() == pytest.approx([-math.log(99)] * 4)


def test_names_by_which_channels_go() -> None:
    """Upper and lower case are one; a name that two classes have tells neither of them."""
    assert channels_by_name(["dog", "Cat", "owl"], ["CAT", "owl", "Dog"]) == [2, 0, 1]
    assert channels_by_name(["dog", "cat"], ["cat", "dog", "Cat"]) == [1, None]
    assert channels_by_name(["cat", "cat"], ["cat", "cat"]) == [0, 1]
    assert channels_by_name(["cat", "cat"], ["cat", "dog"]) == [0, 0]


def test_weights_that_name_no_classes() -> None:
    ours = channels("cat dog")
    _, taken = started(network(ours, seed=1).state_dict(), None, ours)
    assert (taken.classes, taken.new_classes) == ([], ["cat", "dog"])
    assert taken.parts == ["backbone", "FPN", *TOWERS, BOX_LAST]


def test_another_width_is_refused_and_nothing_changes() -> None:
    ours = channels("cat dog")
    net = network(ours)
    before = copy.deepcopy(net.state_dict())
    state = network(ours, seed=1, width=16).state_dict()
    with pytest.raises(InputError, match=r"old\.pt does not fit.*pyramid.*model\.fpn"):
        transfer(net, state, ours, ours, source="old.pt")
    assert all(torch.equal(before[key], value) for key, value in net.state_dict().items())


def test_what_is_said_of_many_classes() -> None:
    said = str(Transfer(["FPN"], [f"c{n}" for n in range(20)], [], []))
    assert said.splitlines()[0].endswith("class channels c0, c1, c2, c3, c4, c5, c6, c7, c8, c9, "
                                         "c10, c11, … (20)")  # fmt: skip
    assert said.splitlines()[1] == "  new: nothing"
