"""What a check may find: the fixed names of its kinds, how bad each is, and what to do."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, NamedTuple

Severity = Literal["error", "warning", "note"]
LISTED = 20  # examples of a kind that are kept


class Kind(NamedTuple):
    """What all findings of one kind have in common."""

    severity: Severity  # error: training refuses it, or its figures would be wrong
    meaning: str
    remedy: str


KINDS = {
    "nothing_to_learn": Kind("error", "the training set has no boxes but crowds", "label objects"),
    "image_missing": Kind("error", "image files that are not there", "bring or rename them"),
    "image_unreadable": Kind("error", "image files that cannot be read", "save them anew"),
    "image_size_differs": Kind(
        "error", "images of another size than annotated", "correct width and height, or the file"
    ),
    "image_in_both_splits": Kind(
        "error", "the same file in train and val: val measures memory", "take it out of one split"
    ),
    "box_unknown_image": Kind("error", "boxes whose image_id is not listed", "correct the id"),
    "box_unknown_category": Kind("error", "boxes whose category is not listed", "correct the id"),
    "box_missing": Kind("error", "annotations without a bbox", "give one, or remove them"),
    "box_not_finite": Kind("error", "boxes with NaN or infinite numbers", "correct them"),
    "box_without_area": Kind("error", "boxes without width or height", "correct or remove them"),
    "box_outside": Kind("error", "boxes outside their image", "correct or remove them"),
    "box_labels_under_softmax": Kind(
        "error",
        "boxes with several labels, which a softmax cannot learn",
        "set loss.classification.activation to sigmoid, or give one category_id",
    ),
    "categories_differ": Kind(
        "error", "train and val list other categories", "give both the same ids and names"
    ),
    "image_rotated": Kind(
        "warning", "images that their EXIF data turn", "see whether the boxes lie right; if not, "
        "save the images turned, without EXIF orientation",
    ),
    "image_duplicate": Kind("warning", "files of one content in a split", "keep one of them"),
    "image_near_duplicate": Kind(
        "warning", "images of one split that look the same", "keep one, if the boxes agree"
    ),
    "image_near_duplicate_across_splits": Kind(
        "warning", "images that look the same in train and val", "take them out of one split"
    ),
    "box_partly_outside": Kind(
        "warning", "boxes more than a pixel beyond their image; clipped there", "correct them"
    ),
    "box_tiny": Kind("warning", "boxes at most a pixel wide or high", "correct or remove them"),
    "box_whole_image": Kind("warning", "boxes of 98 % of their image or more", "look at them"),
    "box_duplicate": Kind("warning", "boxes that are there twice", "remove one"),
    "box_near_duplicate": Kind(
        "warning", "boxes of one class with an IoU of 0.9 or more", "remove one"
    ),
    "box_two_labels": Kind(
        "warning", "boxes of two classes with an IoU of 0.9 or more", "decide for one class"
    ),
    "box_fits_no_anchor": Kind(
        "warning",
        "boxes too thin, small or large for an anchor to reach matching.foreground",
        "take the proposed anchors, or another data.resize",
    ),
    "class_same_name": Kind("warning", "classes of one name but for case", "make them one class"),
    "class_without_name": Kind("warning", "classes of blank names", "name them"),
    "class_without_boxes": Kind("warning", "classes without a box", "label some, or remove them"),
    "class_in_one_split": Kind(
        "warning", "classes with boxes in one split alone", "split the images anew"
    ),
    "class_imbalance": Kind(
        "note", "training boxes of the commonest class are 100 times those of another, or more",
        "expect a low AP of the rare; see loss.classification.effective_number",
    ),
    "image_without_boxes": Kind(
        "note", "images without boxes, which are learned as background", "be sure that they are"
    ),
    "box_area_replaced": Kind(
        "note", "boxes whose area is not above 0; taken as width x height", "correct it"
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Example:
    """One case of a finding."""

    detail: str
    split: str = ""  # train or val; "" where it is about both
    image_id: int | None = None
    file_name: str = ""
    annotations: tuple[int, ...] = ()  # ids

    def __str__(self) -> str:
        """Where it is, and what: "train 3.jpg: annotations 4, 5: cat [0, 0, 9, 9]; cow [...]"."""
        ids = ", ".join(map(str, self.annotations))
        plural = "s" if len(self.annotations) > 1 else ""
        parts = (
            f"{self.split} {self.file_name}".strip(),
            ids and f"annotation{plural} {ids}",
            self.detail,
        )
        return ": ".join(part for part in parts if part)


@dataclass(frozen=True)
class Finding:
    """All cases of one kind."""

    kind: str  # of KINDS
    count: int
    examples: tuple[Example, ...]  # the first LISTED

    @property
    def severity(self) -> Severity:
        """How bad it is."""
        return KINDS[self.kind].severity


Case = tuple[str, Example]  # the name of a kind, and one case of it


def collect(cases: Iterable[Case]) -> list[Finding]:
    """One finding a kind, in the order of KINDS."""
    by_kind: dict[str, list[Example]] = {kind: [] for kind in KINDS}
    for kind, example in cases:
        by_kind[kind].append(example)
    return [
        Finding(kind, len(examples), tuple(examples[:LISTED]))
        for kind, examples in by_kind.items()
        if examples
    ]
