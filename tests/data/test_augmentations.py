"""What each augmentation does to pixels and boxes, and that (seed, epoch, row) alone decide it."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from test_transforms import generator
from test_transforms import sample as white

from detector.data.augmentation import Context, Draws, Step
from detector.data.augmentations import Flip, Photometric, ScaleJitter
from detector.data.batch import MEAN_COLOUR, Sample
from detector.data.coco import CocoIndex
from detector.data.crops import IoUCrop, ZoomOut
from detector.data.loader import Address, DetectionDataset, train_loader
from detector.data.mosaic import Mixup, Mosaic
from detector.data.transforms import FixedSize, ShorterSide, Transform
from detector.errors import InputError

# --- as it was before augmentations were a list


def noise(seed: int) -> Sample:
    draw = generator(seed)
    height, width = [(60, 100), (97, 64), (33, 128)][seed % 3]
    image = torch.randint(0, 256, (3, height, width), dtype=torch.uint8, generator=draw)
    count = seed % 4
    corner = torch.rand(count, 2, generator=draw) * torch.tensor([width * 0.6, height * 0.6])
    side = 4 + torch.rand(count, 2, generator=draw) * torch.tensor([width * 0.3, height * 0.3])
    return Sample(
        image=image,
        boxes=torch.cat([corner, corner + side], 1),
        labels=torch.rand(count, 3, generator=draw) < 0.5,
        crowd=torch.rand(count, generator=draw) < 0.3,
        image_id=seed,
        original_size=(height, width),
        key=seed,
    )


def digest(transform: Transform) -> str:
    """Of twelve samples of noise, every bit."""
    hasher = hashlib.sha256()
    for seed in range(12):
        sample = transform(noise(seed), generator(100 + seed))
        for tensor in (sample.image, sample.boxes, sample.labels, sample.crowd):
            hasher.update(str(tuple(tensor.shape)).encode())
            hasher.update(tensor.numpy().tobytes())
    return hasher.hexdigest()[:16]


# of ff1ca12, in the order of the product below
RESIZES = (ShorterSide((40, 64, 80), 120), FixedSize(width=70, height=50))
OPTIONS = list(itertools.product(RESIZES, (0.0, 0.5), (None, (0.5, 2.0), (1.25, 1.25)), (0.0, 0.4)))
BEFORE = """
d2699c0af68e0e26 abc29f18bfe9f019 945ec54803156ee8 40c658412f91a8d3 76eccda09ff45b18
d18a570df37a99aa ffc330dd25927c67 44866175b16c1cf7 0d81f78a0c1c9ffb aa68e27be35ae984
dd9eeba13af9d56d 6c4ac53739d4e864 0f66ee4c93cca6cd a6f0a17182c72f1c a9cc7699a60600d9
8dcead663540b5e3 8aef1234f8ae0236 42f2c8bc97dbac70 556d439dd97fe937 4e494fd40f92fa98
9f5f6e48dd3886b4 b337f0d23bd03dac 39598302b69934d5 14aa39e1bf8d6aa3
""".split()


@pytest.mark.skipif(
    not torch.backends.cpu.get_cpu_capability().startswith("AVX"),
    reason="torch's other kernels round pixels otherwise",
)
@pytest.mark.parametrize(("options", "expected"), list(zip(OPTIONS, BEFORE, strict=True)))
def test_pixels_and_boxes_are_those_of_the_mapping_to_the_last_bit(
    options: tuple[ShorterSide | FixedSize, float, tuple[float, float] | None, float],
    expected: str,
) -> None:
    resize, flip, jitter, photometric = options
    steps: list[Step] = [] if jitter is None else [ScaleJitter(*jitter)]
    steps += [Flip(flip)] if flip else []
    steps += [Photometric(photometric)] if photometric else []
    assert digest(Transform(resize=resize, augmentations=steps)) == expected


def test_one_that_draws_more_moves_no_draw_of_these() -> None:
    """A zoom of exactly 1 draws four numbers, and changes nothing."""
    steps = [Flip(0.5), ScaleJitter(0.5, 2.0), Photometric(0.4)]
    resize = ShorterSide((40, 64, 80), 120)
    plain = digest(Transform(resize=resize, augmentations=steps))
    assert digest(Transform(resize=resize, augmentations=[ZoomOut(1, 1, 1), *steps])) == plain


# --- order and stage


def test_steps_run_in_their_order_and_on_their_side_of_the_resize() -> None:
    seen: list[tuple[str, int]] = []

    def step(name: str, *, before: bool) -> Step:
        def see(sample: Sample, generator: torch.Generator) -> Sample:
            seen.append((name, sample.image.shape[2]))
            return sample

        see.before_resize = before  # type: ignore[attr-defined]
        return see

    steps = [
        step("a", before=False), step("b", before=True), ScaleJitter(2, 2),
        step("c", before=False), step("d", before=True),
    ]  # fmt: skip
    Transform(resize=FixedSize(width=50, height=30), augmentations=steps)(white(), generator())
    assert seen == [("b", 100), ("d", 100), ("a", 50), ("c", 50)]


@pytest.mark.parametrize("steps", [[Flip(), Flip()], [Photometric(0), Mosaic(), Photometric(1)]])
def test_what_shares_its_draws_stands_once(steps: list[Step]) -> None:
    with pytest.raises(ValueError, match="twice"):
        Transform(resize=FixedSize(10, 10), augmentations=steps)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Flip(1.5), lambda: Photometric(-1), lambda: ScaleJitter(2, 1), lambda: Mosaic(2),
        lambda: Mixup(0.5, 0), lambda: ZoomOut(0.5, 0.5, 2), lambda: IoUCrop((0.5, 1.5)),
        lambda: IoUCrop(aspect=(2, 1)), lambda: ZoomOut(2),
    ],
)  # fmt: skip
def test_arguments_out_of_range(make: Callable[[], Step]) -> None:
    with pytest.raises(ValueError, match="should"):
        make()


# --- a function of one's own

WRONG: dict[str, tuple[Callable[[Sample, torch.Generator], object], str]] = {
    "nothing": (lambda s, g: None, "NoneType"),
    "float pixels": (lambda s, g: replace(s, image=s.image / 255), "image is torch.float32"),
    "gray": (lambda s, g: replace(s, image=s.image[:1]), r"image is .*\(1, .*expected .*\(3, "),
    "a box less": (lambda s, g: replace(s, boxes=s.boxes[1:]), r"labels is .*\(1, 2\)"),
    "a class more": (
        lambda s, g: replace(s, labels=torch.ones(1, 3, dtype=torch.bool)),
        r"labels .*\(1, 3\); expected torch.bool of shape \(1, 2\)",
    ),
    "double": (lambda s, g: replace(s, boxes=s.boxes.double()), "boxes is torch.float64"),
    "no width": (lambda s, g: replace(s, boxes=s.boxes[:, [0, 1, 0, 3]]), "x1 < x2"),
    "outside": (lambda s, g: replace(s, boxes=s.boxes + 60), "inside the image"),
    "below 0": (lambda s, g: replace(s, boxes=s.boxes - 15), "inside the image"),
    "not a number": (lambda s, g: replace(s, boxes=s.boxes * torch.nan), "inside the image"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_a_function_of_ones_own_returns_is_checked(case: str) -> None:
    function, words = WRONG[case]
    transform = Transform(resize=FixedSize(100, 60), augmentations=[function])
    with pytest.raises(InputError, match=f"test_augmentations:<lambda>: it returned .*{words}"):
        transform(white(), generator())


def fails(sample: Sample, generator: torch.Generator) -> Sample:
    return replace(sample, image=torch.cat([sample.image, sample.boxes]))


def test_a_function_that_fails_is_told_with_its_line() -> None:
    line = fails.__code__.co_firstlineno + 1
    transform = Transform(resize=FixedSize(100, 60), augmentations=[fails])
    with pytest.raises(
        InputError, match=rf"image 1: .*:fails failed .*_augmentations\.py, .*{line}"
    ):
        transform(white(), generator())


# --- windows and frames


def test_zoom_out_puts_the_image_into_a_frame_of_the_mean_colour() -> None:
    step = ZoomOut(1.0, 1.0, 4.0)
    transform = Transform(resize=ShorterSide((10_000,), 100), augmentations=[step])
    widths = []
    for seed in range(30):
        sample = step.apply(white(), context(seed))
        ((left, top, right, bottom),) = sample.boxes.tolist()
        assert (right - left, bottom - top) == (20, 30)
        inside = sample.image[:, int(top) : int(bottom), int(left) : int(right)]
        assert inside.min() == 255 and (sample.image == 255).sum() == 3 * 600
        frame = (sample.image == torch.tensor(MEAN_COLOUR)[:, None, None]).all(0).sum()
        assert frame == sample.image[0].numel() - 60 * 100
        widths.append(sample.image.shape[2])
    assert 100 <= min(widths) < 150 and 350 < max(widths) <= 400
    assert max(transform(white(), generator()).image.shape) == 100  # the resize comes after it


def context(seed: int = 0, *others: Sample) -> Context:
    left = iter(others)
    return Context(generator=generator(seed), draws=Draws(*[0.0] * 9), more=lambda: next(left))


@pytest.mark.parametrize("step", [ZoomOut(0.3), Mosaic(0.3), Mixup(0.3)])
def test_a_probability_is_kept(step: Step) -> None:
    original = white()
    kept = [step.apply(original, context(seed, *[white()] * 3)) is original for seed in range(400)]
    assert 0.62 < sum(kept) / 400 < 0.78


def test_an_iou_crop_shows_the_centre_of_a_box_and_drops_the_others() -> None:
    """The crowd is cut, and stays; windows are 0.3 to 1 of each side."""
    boxes = [[10.0, 20, 30, 50], [0, 0, 100, 60], [70, 10, 90, 40]]
    original = white(boxes=boxes, crowd="010")
    original = replace(original, labels=torch.tensor([[True, False], [True, True], [False, True]]))
    counts = set()
    for seed in range(60):
        sample = IoUCrop().apply(original, context(seed))
        height, width = sample.image.shape[1:]
        assert width >= 30 and height >= 18
        (whole,) = sample.boxes[sample.crowd].tolist()
        assert whole == [0, 0, width, height]
        counts.add(len(sample.boxes))
        assert sample.labels[sample.crowd].tolist() == [[True, True]]
        for box in sample.boxes[~sample.crowd]:
            assert (box[2:] - box[:2] >= torch.tensor([10, 15])).all()  # half of each side
    assert counts == {2, 3}


def test_an_iou_crop_of_crowds_alone_or_of_a_few_pixels_changes_nothing() -> None:
    for sample in (white(crowd="1"), white(boxes=[]), white(3, 50, [[0, 0, 9, 3]])):
        for seed in range(5):
            assert IoUCrop().apply(sample, context(seed)) is sample


@pytest.mark.parametrize("step", [IoUCrop(), ZoomOut(1.0), Mosaic(1.0), Mixup(1.0)])
def test_torchs_global_generator_is_neither_read_nor_moved(step: Step) -> None:
    results = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        before = torch.get_rng_state()
        results.append(step.apply(noise(3), context(5, *[noise(7)] * 3)))
        assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(results[0].image, results[1].image)
    assert torch.equal(results[0].boxes, results[1].boxes)
    other = step.apply(noise(3), context(6, *[noise(7)] * 3))
    assert not torch.equal(other.boxes, results[0].boxes) or not torch.equal(
        other.image, results[0].image
    )


# --- several images in one


def plain(value: int, height: int, width: int, label: int) -> Sample:
    """One colour all over; its box is the image, of one of four classes."""
    sample = white(height, width, [[0, 0, width, height]])
    image = torch.full((3, height, width), value, dtype=torch.uint8)
    return replace(sample, image=image, labels=torch.eye(4)[[label]] > 0)


def test_a_mosaic_shows_a_window_of_each_image_in_its_quarter() -> None:
    """Images of one colour each, whose boxes, crowds, are all of them: so is each quarter."""
    samples = [plain(10, 60, 100, 0), plain(20, 100, 40, 1), plain(30, 30, 30, 2)]
    samples.append(plain(40, 200, 300, 3))
    samples = [replace(sample, crowd=torch.tensor([True])) for sample in samples]
    meetings = []
    for seed in range(40):
        mosaic = Mosaic(1.0).apply(samples[0], context(seed, *samples[1:]))
        assert mosaic.image.shape == (3, 60, 100)
        assert mosaic.labels.tolist() == (torch.eye(4) > 0).tolist()
        for colour, box in zip((10, 20, 30, 40), mosaic.boxes.round().int().tolist(), strict=True):
            quarter = mosaic.image[:, box[1] : box[3], box[0] : box[2]]
            assert (quarter == colour).all() and (mosaic.image == colour).sum() == quarter.numel()
        x, y = mosaic.boxes[0, 2:].round().tolist()
        assert mosaic.boxes.round().tolist() == [
            [0, 0, x, y],
            [x, 0, 100, y],
            [0, y, x, 60],
            [x, y, 100, 60],
        ]
        meetings.append((x, y))
    xs, ys = zip(*meetings, strict=True)
    assert 20 <= min(xs) < 30 and 70 < max(xs) <= 80 and 12 <= min(ys) < 20 and 40 < max(ys) <= 48


def test_boxes_of_a_mosaic_stay_on_their_pixels_and_shreds_are_dropped() -> None:
    """A grid of 5 x 5 boxes: of each a tenth is left, or more; of a crowd perhaps less."""
    boxes = [[20.0 * i, 20 * j, 20 * i + 10, 20 * j + 10] for i in range(5) for j in range(5)]
    left = []
    for crowd in ("", "1" * 25):
        sample = white(100, 100, boxes, crowd)
        for seed in range(20):
            mosaic = Mosaic(1.0).apply(sample, context(seed, *[sample] * 3))
            sides = mosaic.boxes[:, 2:] - mosaic.boxes[:, :2]
            assert (mosaic.boxes >= 0).all() and (mosaic.boxes <= 100).all()
            assert (sides >= 1).all() and len(mosaic.crowd) == len(mosaic.labels) == len(sides)
            for x1, y1, x2, y2 in mosaic.boxes.tolist():
                pixel = mosaic.image[0, int((y1 + y2) / 2), int((x1 + x2) / 2)]
                assert pixel > 100 or min(x2 - x1, y2 - y1) < 3
            left.append(len(sides))
    assert sum(left[:20]) < sum(left[20:])


def test_a_mosaic_of_images_of_a_few_pixels() -> None:
    small, least, dot = white(7, 40, []), white(8, 8, []), white(1, 1, [[0, 0, 1, 1]])
    assert Mosaic(1.0).apply(small, context(0)) is small
    for seed in range(10):
        mosaic = Mosaic(1.0).apply(least, context(seed, *[small, dot, small]))
        assert mosaic.image.shape == (3, 8, 8) and len(mosaic.boxes) == 1


def test_mixup_blends_in_a_frame_of_the_larger_sides() -> None:
    """Shares of Beta(1.5, 1.5) lie all over 0..1; beside one image is the mean colour."""
    first, second = plain(200, 40, 100, 0), plain(0, 60, 50, 3)
    shares = []
    for seed in range(60):
        mixed = Mixup(1.0).apply(first, context(seed, second))
        assert mixed.image.shape == (3, 60, 100) and mixed.image.dtype == torch.uint8
        assert mixed.boxes.tolist() == [[0, 0, 100, 40], [0, 0, 50, 60]]
        assert mixed.labels.int().tolist() == [[1, 0, 0, 0], [0, 0, 0, 1]]
        share = mixed.image[0, 0, 0].item() / 200
        shares.append(share)
        red = MEAN_COLOUR[0]
        assert mixed.image[0, 0, 99] == pytest.approx(share * 200 + (1 - share) * red, abs=1)
        assert mixed.image[0, 59, 0] == pytest.approx(share * red, abs=1)
        assert (mixed.image[0, 41:, 51:] == red).all()
    assert min(shares) < 0.2 and max(shares) > 0.8 and 0.4 < sum(shares) / 60 < 0.6


def test_without_a_data_set_there_are_no_more_samples() -> None:
    transform = Transform(resize=FixedSize(10, 10), augmentations=[Mosaic(1.0)])
    with pytest.raises(ValueError, match="`more`"):
        transform(white(), generator())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Six images of noise of different sizes, each with one box."""
    return write(tmp_path, 6)


def write(folder: Path, count: int) -> Path:
    random = np.random.default_rng(0)
    images, boxes = [], []
    for i in range(count):
        height, width = 40 + 6 * i, 70 - 6 * i
        Image.fromarray(random.integers(0, 255, (height, width, 3), np.uint8)).save(
            folder / f"{i}.png"
        )
        images.append({"id": i + 1, "file_name": f"{i}.png", "height": height, "width": width})
        boxes.append({"id": i + 1, "image_id": i + 1, "category_id": 1, "bbox": [4, 4, 20, 20]})
    content = {"images": images, "annotations": boxes, "categories": [{"id": 1, "name": "noise"}]}
    (folder / "boxes.json").write_text(json.dumps(content))
    return folder


def dataset(folder: Path, *steps: Step, seed: int = 3) -> DetectionDataset:
    transform = Transform(resize=FixedSize(64, 64), augmentations=steps)
    return DetectionDataset(CocoIndex.read(folder / "boxes.json", folder), transform, seed)


ALL = (Mosaic(1.0), Mixup(1.0), IoUCrop(), ZoomOut(1.0), ScaleJitter(0.5, 2), Flip(0.5))


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("accumulate", [1, 2])
def test_partners_depend_on_seed_epoch_and_row_alone(
    folder: Path, workers: int, accumulate: int
) -> None:
    """Not on workers, micro-batches, skipped steps or torch's global generator."""
    data = dataset(folder, *ALL)
    torch.manual_seed(workers)
    expected = {i: data[Address(1, i)] for i in range(6)}
    loader = train_loader(
        data, batch_size=2, epoch=1, accumulate=accumulate, workers=workers, skip_steps=1
    )
    seen = 0
    for step in loader:
        for batch in step:
            for row, image_id in enumerate(batch.image_ids.tolist()):
                sample = expected[image_id - 1]
                assert torch.equal(batch.images[row], sample.image)
                assert torch.equal(batch.boxes[row][batch.present[row]], sample.boxes)
                seen += 1
    assert seen == 4
    for other in (data[Address(2, 0)], dataset(folder, *ALL, seed=4)[Address(1, 0)]):
        assert not torch.equal(other.image, expected[0].image)


def test_every_image_of_the_epoch_may_be_a_partner(folder: Path) -> None:
    data, read = dataset(folder, Mixup(1.0)), set()
    original = type(data)._untouched

    def note(self: DetectionDataset, address: Address) -> Sample:
        read.add(address)
        return original(self, address)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(DetectionDataset, "_untouched", note)
        for _ in range(60):
            data[Address(7, 0)]
        assert len(read) <= 2  # the same one each time
        for epoch in range(60):
            data[Address(epoch, 0)]
    assert {row for _, row in read} == set(range(6))


def test_one_image_is_its_own_partner(tmp_path: Path) -> None:
    data = dataset(write(tmp_path, 1), Mosaic(1.0), Mixup(1.0))
    assert data[Address(0, 0)].image.shape == (3, 64, 64)


def test_an_error_of_a_partner_names_its_file(folder: Path) -> None:
    data = dataset(folder, Mosaic(1.0))
    (folder / "5.png").write_bytes(b"nothing")
    with pytest.raises(InputError, match=r"5\.png: this is not a whole"):
        for epoch in range(30):
            data[Address(epoch, 0)]
