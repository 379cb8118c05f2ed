"""What is wrong with classes: their names, and how many boxes they have."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence

from detector.check.findings import Case, Example
from detector.check.split import Split
from detector.engine.restore import Classes

IMBALANCE = 100  # times as many boxes


def class_cases(splits: Sequence[Split]) -> Iterator[Case]:
    """Of the training set, and of its relation to the validation set."""
    train = splits[0]
    yield from _name_cases(train)
    if train.index.crowd.all():
        yield "nothing_to_learn", Example(str(train.index.annotations_file), "train")
        return
    classes = [Classes.of(split.index) for split in splits]
    if classes[-1] != classes[0]:
        yield "categories_differ", Example(f"val and train: {classes[-1].difference(classes[0])}")
    else:
        yield from _count_cases(splits)
    names, counts = train.index.category_names, boxes_of_classes(train)
    most = max(counts)
    commonest = names[counts.index(most)]
    for name, count in zip(names, counts, strict=True):  # names may occur twice
        if 0 < count * IMBALANCE <= most:
            yield "class_imbalance", Example(f"{name} {count}, {commonest} {most}", "train")


def boxes_of_classes(split: Split) -> list[int]:
    """K: boxes without crowds."""
    return [int(count) for count in split.index.boxes_per_class]


def _name_cases(split: Split) -> Iterator[Case]:
    same = defaultdict(list)
    for category, name in split.class_names.items():
        same[name.strip().casefold()].append(f"{name!r} (id {category})")
    for key, classes in same.items():
        if not key:
            yield from (("class_without_name", Example(one, split.name)) for one in classes)
        elif len(classes) > 1:
            yield "class_same_name", Example(", ".join(classes), split.name)


def _count_cases(splits: Sequence[Split]) -> Iterator[Case]:
    """Classes that have no boxes, in all splits or in one of two."""
    counts = zip(*(boxes_of_classes(split) for split in splits), strict=True)
    for name, of_splits in zip(splits[0].index.category_names, counts, strict=True):
        if not any(of_splits):
            yield "class_without_boxes", Example(name)
        elif not all(of_splits):
            (only,) = (s.name for s, count in zip(splits, of_splits, strict=True) if count)
            yield "class_in_one_split", Example(f"{name}: {max(of_splits)} boxes, all in {only}")
