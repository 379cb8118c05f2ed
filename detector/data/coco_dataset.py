"""A data set in COCO format for programs: one call, and batches for a training loop."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Literal

from detector.data.annotations import Function, read_coco, read_own
from detector.data.augmentations import Flip
from detector.data.batch import Sample
from detector.data.coco import CocoIndex
from detector.data.loader import Address, DetectionDataset, StepLoader, train_loader
from detector.data.transforms import ShorterSide, Transform

DEFAULT = Transform(resize=ShorterSide(shorter=(800,), longer=1333), augmentations=(Flip(),))


class CocoDataset(DetectionDataset):
    """Images with boxes of a COCO annotation file, checked when it is made.

    annotations: the JSON file. images: the folder that its file names are relative to.
    transform: augmentation and size; by default, the shorter side 800 pixels and flips.
    seed: with the epoch and the index it decides every random number of a sample.
    invalid: whether images and boxes that cannot be used are refused or left out.
    reader: for annotations of another format, a function of the annotation file and the folder of
        images that returns the content of a COCO file, a dict.

    Raises InputError, a ValueError, naming file and id, for what cannot be used.
    """

    def __init__(
        self,
        annotations: str | Path,
        images: str | Path,
        *,
        transform: Transform = DEFAULT,
        seed: int = 0,
        invalid: Literal["refuse", "skip"] = "refuse",
        reader: Function | None = None,
    ) -> None:
        if invalid not in ("refuse", "skip"):
            raise ValueError(f"invalid is {invalid!r}; it should be 'refuse' or 'skip'.")
        read = read_coco if reader is None else partial(read_own, reader)
        index = CocoIndex.read(Path(annotations), Path(images), invalid=invalid, reader=read)
        super().__init__(index, transform, seed)

    def __getitem__(self, address: Address | int) -> Sample:
        """The sample of this index as epoch 0 has it, or of an `Address`, epoch and index."""
        return super().__getitem__(Address(0, address) if isinstance(address, int) else address)

    @property
    def class_names(self) -> list[str]:
        """K, in the order of labels and of channels."""
        return list(self.index.category_names)

    def steps(self, epoch: int = 0, skip: int = 0, *, batch_size: int) -> StepLoader:
        """Shuffled batches of an epoch from step `skip` on, as `Trainer` takes them.

        Raises InputError where the data set is smaller than a batch.
        """
        return train_loader(self, batch_size=batch_size, epoch=epoch, skip_steps=skip)
