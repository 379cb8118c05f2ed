"""Outputs to detections, against worked examples."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from detector.anchors.box_coder import BoxCoder
from detector.anchors.class_code import ClassCode
from detector.postprocess import Postprocess
from detector.structures import Detections, Outputs

ANCHORS = torch.tensor([[0.0, 0, 10, 10], [1, 0, 11, 10], [20, 20, 40, 60]])


def detect(
    scores: list[list[float]], *, size: tuple[int, int] = (50, 31), **changes: float | torch.Tensor
) -> Detections:
    """Detections of one image from class probabilities (A, K), anchors undeformed."""
    settings = {"score": 0.05, "per_level": 100, "nms": 0.5, "per_image": 3, **changes}
    code = ClassCode(num_classes=len(scores[0]))
    outputs = Outputs(torch.tensor([scores]).logit(), torch.zeros(1, len(scores), 4))
    post = Postprocess(code, BoxCoder(), **settings)  # type: ignore[arg-type]
    return post(outputs, ANCHORS, [2, 1], torch.tensor([size]))


def test_nms_keeps_the_better_of_two_and_clips() -> None:
    """IoU of the first two anchors is 90/110 = .82; the third is cut at 31 wide, 50 high."""
    detections = detect([[0.9, 0.01], [0.8, 0.01], [0.7, 0.01]])
    assert detections.present.tolist() == [[True, True, False]]
    assert detections.boxes[0, :2].tolist() == [[0, 0, 10, 10], [20, 20, 31, 50]]
    assert detections.labels[0, :2].tolist() == [0, 0]
    assert torch.allclose(detections.scores[0], torch.tensor([0.9, 0.7, 0.0]))


def test_nms_is_class_by_class() -> None:
    detections = detect([[0.9, 0.01], [0.01, 0.8], [0.01, 0.01]])
    assert detections.labels[0, :2].tolist() == [0, 1]
    assert detections.present.tolist() == [[True, True, False]]


def test_one_anchor_may_show_two_classes() -> None:
    detections = detect([[0.9, 0.6], [0.01, 0.01], [0.01, 0.01]])
    assert detections.labels[0, :2].tolist() == [0, 1]


def test_per_level_and_per_image_limits() -> None:
    scores = [[0.9], [0.8], [0.7]]
    assert detect(scores, nms=1.0).present.sum() == 3
    assert detect(scores, nms=1.0, per_level=1).present.sum() == 2
    assert detect(scores, nms=1.0, per_image=1).scores.shape == (1, 1)


def test_nothing_above_the_score_threshold() -> None:
    detections = detect([[0.04], [0.02], [0.01]])
    assert not detections.present.any()
    assert detections.boxes.shape == (1, 3, 4)


def test_anchors_centred_in_the_padding_are_not_seen() -> None:
    """The third anchor is 20 to 40 wide: its centre is at the edge of an image 30 wide."""
    scores = [[0.01], [0.01], [0.9]]
    assert detect(scores).present.sum() == 1
    assert detect(scores, size=(50, 30)).present.sum() == 0


def test_deltas_that_are_not_finite_show_nothing() -> None:
    """Of the best anchor one delta is NaN, of the third one infinite; the second keeps its box."""
    deltas = torch.zeros(1, 3, 4)
    deltas[0, 0, 2], deltas[0, 2, 0] = torch.nan, torch.inf
    post = Postprocess(
        ClassCode(num_classes=1), BoxCoder(), score=0.05, per_level=1, nms=0.5, per_image=3
    )
    outputs = Outputs(torch.tensor([[[0.9], [0.8], [0.7]]]).logit(), deltas)
    detections = post(outputs, ANCHORS, [2, 1], torch.tensor([[50, 31]]))
    assert detections.present.tolist() == [[True, False, False]]
    assert detections.boxes[0].tolist() == [[1, 0, 11, 10], [0, 0, 0, 0], [0, 0, 0, 0]]


def test_a_score_at_the_threshold_is_too_low() -> None:
    """As in torchvision and Detectron2."""
    scores = [[0.5], [0.01], [0.01]]
    assert detect(scores, score=0.5).present.sum() == 0
    assert detect(scores, score=0.499).present.sum() == 1


def test_scores_of_float16_logits_are_float32() -> None:
    """sigmoid(8) = .999665; float16 has no number between .99951 and 1 but .99976 there."""
    code = ClassCode(num_classes=1)
    logits = torch.tensor([[[8.0], [-9.0], [-9.0]]], dtype=torch.float16)
    post = Postprocess(code, BoxCoder(), score=0.05, per_level=9, nms=0.5, per_image=1)
    detections = post(
        Outputs(logits, torch.zeros(1, 3, 4)), ANCHORS, [2, 1], torch.tensor([[50, 31]])
    )
    assert abs(detections.scores[0, 0].item() - 0.999665) < 1e-6


def test_boxes_scores_and_labels_stay_together() -> None:
    """The better one is of the second level and of the second class."""
    detections = detect([[0.6, 0.01], [0.01, 0.01], [0.01, 0.9]])
    assert detections.labels[0, :2].tolist() == [1, 0]
    assert detections.boxes[0, :2].tolist() == [[20, 20, 31, 50], [0, 0, 10, 10]]
    assert torch.allclose(detections.scores[0, :2], torch.tensor([0.9, 0.6]))


def test_agnostic_nms_keeps_the_best_of_an_object() -> None:
    """As class by class, above, but of two classes on one place the better one alone stays."""
    detections = detect([[0.8, 0.01], [0.01, 0.9], [0.7, 0.01]], agnostic=True)
    assert detections.present.tolist() == [[True, True, False]]
    assert detections.labels[0, :2].tolist() == [1, 0]
    assert detections.boxes[0, :2].tolist() == [[1, 0, 11, 10], [20, 20, 31, 50]]


def test_each_class_has_its_score() -> None:
    """What is too low for its class suppresses nothing, though it is higher than what stays."""
    scores = [[0.5, 0.01], [0.01, 0.4], [0.7, 0.3]]
    detections = detect(scores, score=torch.tensor([0.6, 0.35]), agnostic=True)
    assert detections.present.tolist() == [[True, True, False]]
    assert detections.labels[0, :2].tolist() == [0, 1]
    assert torch.allclose(detections.scores[0, :2], torch.tensor([0.7, 0.4]))


@given(
    st.integers(0, 2**32), st.integers(1, 3), st.integers(1, 7),
    st.sampled_from([0.0, 0.3, 0.7, 1.0]), st.integers(1, 40), st.booleans(),
)  # fmt: skip
def test_the_traceable_way_gives_the_same(
    seed: int, images: int, classes: int, nms: float, per_image: int, agnostic: bool
) -> None:
    """Images of several sizes in a batch; with fewer candidates than per_image, and none."""
    generator = torch.Generator().manual_seed(seed)
    corners = 60 * torch.rand(30, 2, generator=generator)
    anchors = torch.cat([corners, corners + 5 + 40 * torch.rand(30, 2, generator=generator)], dim=1)
    outputs = Outputs(
        3 * torch.randn(images, 30, classes, generator=generator) - 2,
        torch.randn(images, 30, 4, generator=generator) / 4,
    )
    outputs.class_logits[0, ::2] = -9
    outputs.box_deltas[0, 1] = torch.nan
    sizes = torch.randint(40, 90, (images, 2), generator=generator)
    post = Postprocess(
        ClassCode(num_classes=classes), BoxCoder(),
        score=0.2, per_level=25, nms=nms, per_image=per_image, agnostic=agnostic,
    )  # fmt: skip
    wanted = post(outputs, anchors, [20, 10], sizes)
    found = post.traceable(outputs, anchors, [20, 10], sizes)
    present = wanted.present
    assert found.present.equal(present)
    assert found.scores.equal(wanted.scores)
    assert found.boxes[present].equal(wanted.boxes[present])
    assert found.labels[present].equal(wanted.labels[present])
    assert found.boxes.shape == (images, per_image, 4)
