"""The package as another program has it: installed from a wheel, imported, called."""

import io
import json
import os
import shutil
import subprocess
import sys
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import HOME, Command
from PIL import Image
from test_docs import blocks

import detector
from detector import Detector

EXAMPLES = blocks("docs/library.md", "python") + blocks("README.md", "python")


@pytest.fixture(scope="module")
def trained(finished: Path) -> Detector:
    return detector.load(finished, device="cpu")


@pytest.fixture(scope="module")
def project(finished: Path, digits: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the examples suppose in the working folder."""
    folder = tmp_path_factory.mktemp("project")
    shutil.copytree(digits, folder / "data" / "digits")
    (folder / "data" / "fruit" / "JPEGImages").mkdir(parents=True)
    Image.new("RGB", (60, 40)).save(folder / "data" / "fruit" / "JPEGImages" / "0001.jpg")
    for run in ("digits", "fruit"):
        shutil.copytree(finished, folder / "runs" / run)
    return folder


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda text: text.split("\n\n")[-1][:40])
def test_an_example_of_the_documents_runs(
    example: str, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project)
    exec(compile(example, "example", "exec"), {"__name__": "example"})


def test_a_notebook_shows_the_picture(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first example, of at most six lines; a notebook draws the value of the last one."""
    monkeypatch.chdir(project)
    *lines, last = [line for line in EXAMPLES[0].splitlines() if line]
    names: dict[str, Any] = {}
    exec("\n".join(lines), names)
    assert len(lines) < 6
    assert Image.open(io.BytesIO(eval(last, names)._repr_png_())).format == "PNG"


def test_the_trainers_example_leaves_what_it_says(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """6 steps, of which none was left out; the state gives the weights back."""
    monkeypatch.chdir(project)
    (example,) = (text for text in EXAMPLES if "Trainer(" in text)
    names: dict[str, Any] = {"__name__": "example"}
    exec(compile(example.replace("runs/mine", "runs/again"), "example", "exec"), names)
    state = torch.load("runs/again/checkpoints/last.pt", weights_only=True)
    assert state["step"] == 6
    assert state["optimizer"]["state"][0]["step"] == 6
    trainer = names["trainer"]
    trainer.step.model.head.weight.data.zero_()
    trainer.restore(state)
    assert trainer.done == 6
    assert torch.equal(trainer.step.model.head.weight, state["model"]["head.weight"])


def example_with(words: str, project: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The names that the example with these words leaves."""
    monkeypatch.chdir(project)
    (example,) = (text for text in EXAMPLES if words in text)
    names: dict[str, Any] = {"__name__": "example"}
    exec(compile(example, "example", "exec"), names)
    return names


def test_the_data_sets_example_resizes_and_names_classes(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = example_with("Mosaic(", project, monkeypatch)
    dataset, sample = names["dataset"], names["sample"]
    document = json.loads(Path("data/digits/annotations/train.json").read_text())
    assert list(dataset.class_names) == [one["name"] for one in document["categories"]]
    assert sample.image.shape == (3, 64, 96) and sample.labels.sum(1).eq(1).all()
    low, high = sample.boxes.view(-1, 2, 2).unbind(1)
    assert (low >= 0).all() and (high > low).all() and (high <= torch.tensor([96, 64])).all()
    assert len(list(dataset.steps(epoch=0, batch_size=4))) == len(document["images"]) // 4


def test_the_pieces_example_has_the_focal_loss_of_even_odds(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At p = 1/2 a term costs (1/2)^2 ln 2 times its weight: 0.25 of a yes, 0.75 of a no.

    One of the 12 anchors has a yes and two no, (0.25 + 1.5) 0.173287, ten have three no. The wide
    one around the box has 900 of 2108 pixels in common with it, IoU 0.427, and is ignored.
    """
    names = example_with("collate,", project, monkeypatch)
    losses = names["loss"](names["logits"], names["targets"])[0]
    assert losses.max().item() == pytest.approx(0.389895, abs=1e-6)
    assert losses[names["targets"].matches[0] == 0].tolist() == pytest.approx([0.303252], abs=1e-6)
    assert losses.sum().item() == pytest.approx(0.303252 + 10 * 0.389895, abs=1e-5)


def test_public_names() -> None:
    """The list, the table and the imports for type checkers name the same."""
    assert sorted(detector.__all__) == sorted(set(detector.__all__))
    listed = {name for names in detector._HOME.values() for name in names}
    assert listed | {"__version__"} == set(detector.__all__) <= set(dir(detector))
    text = Path(detector.__file__).read_text().partition("if TYPE_CHECKING:")[2].partition("__v")[0]
    assert {word.strip(",") for word in text.split() if word.strip(",") in listed} == listed
    for name in listed:
        assert getattr(detector, name).__doc__, name
    with pytest.raises(AttributeError, match="'nonsense'"):
        detector.nonsense  # noqa: B018


def test_predictions_are_those_of_the_command(
    tool: Command, finished: Path, digits: Path, trained: Detector, tmp_path: Path
) -> None:
    """Of every file, one turned by its EXIF data included, to the last digit."""
    turned = tmp_path / "turned.jpg"
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.open(sorted((digits / "val").iterdir())[0]).convert("RGB").save(turned, exif=exif)
    files = [*sorted((digits / "val").iterdir()), turned]
    words = ["--run", finished, *files, "--output", tmp_path / "p", "--score", "0.004"]
    assert tool("predict", *words).returncode == 0
    expected = json.loads((tmp_path / "p" / "detections.json").read_text())
    found = trained.predict([str(files[0]), *files[1:]], score=0.004)
    assert len(found) == len(files) and sum(map(len, found)) == len(expected) > 0
    ours = [
        (
            str(file),
            name,
            trained.category_ids[label],
            [float(f"{side:.9g}") for side in [*box[:2], *(box[2:] - box[:2])]],
            float(f"{score:.9g}"),
        )
        for file, one in zip(files, found, strict=True)
        for name, label, box, score in zip(
            one.class_names, one.labels.tolist(), one.boxes.double(), one.scores, strict=True
        )
    ]
    keys = ("file_name", "category", "category_id", "bbox", "score")
    assert ours == [tuple(entry[key] for key in keys) for entry in expected]


def test_the_same_image_in_every_form(trained: Detector, digits: Path, finished: Path) -> None:
    file = sorted((digits / "val").iterdir())[1]
    pillow = Image.open(file).convert("RGB")
    array = np.array(pillow)
    forms = [file, pillow, array, torch.from_numpy(array).permute(2, 0, 1)]
    first, *others = trained.predict(forms, score=0)
    (alone,) = detector.load(finished / "checkpoints" / "best.pt", device="cpu").predict(
        array, score=0
    )
    assert first.boxes.dtype == first.scores.dtype == torch.float32 and len(first) == 100
    assert first.boxes[:, 2].max() <= pillow.width and first.boxes[:, 3].max() <= pillow.height
    for other in (*others, alone):
        assert torch.equal(first.boxes, other.boxes) and torch.equal(first.scores, other.scores)
        assert first.class_names == other.class_names
    assert trained.predict([]) == [] and not trained.model.training


def test_a_checkpoint_alone(
    finished: Path, digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a folder of its own; it is read once, as it may hold a gigabyte."""
    file = Path(shutil.copy(finished / "checkpoints" / "best.pt", tmp_path / "mine.pt"))
    read = []
    load = torch.load
    monkeypatch.setattr("torch.load", lambda file, **how: (read.append(file), load(file, **how))[1])
    alone = detector.load(file, device="cpu")
    assert read == [file]
    picture = sorted((digits / "val").iterdir())[1]
    first, second = (one.predict(picture, score=0)[0] for one in (alone, detector.load(finished)))
    assert torch.equal(first.boxes, second.boxes) and first.class_names == second.class_names


def test_folders_and_patterns(trained: Detector, digits: Path) -> None:
    """Among other images, in the order of their names."""
    files = sorted((digits / "val").iterdir())
    array = np.zeros((40, 60, 3), np.uint8)
    found = trained.predict([array, digits / "val", str(digits / "val" / "*[12].*")])
    pattern = [file for file in files if file.stem[-1] in "12"]
    assert [one.path for one in found] == [None, *files, *pattern] and pattern


def test_a_prediction_is_drawn(trained: Detector, digits: Path, tmp_path: Path) -> None:
    """An array is kept and a file read again; both are enlarged to 384 pixels, if nothing is said.

    80 x 56 becomes 560 x 392, seven times as large.
    """
    file = tmp_path / "a.png"
    shutil.copy(sorted((digits / "val").iterdir())[2], file)
    array = np.array(Image.open(file).convert("RGB"))
    of_file, of_array = trained.predict([file, array], score=0)
    assert of_file.image is None and of_array.image is not None and len(of_file) == 100
    first, second = of_file.draw(), of_array.draw()
    assert first.size == (560, 392) and first.mode == "RGB"
    assert np.array_equal(first, second)
    assert of_file.draw(shorter=1).size == (80, 56)
    black = of_file.draw(np.zeros_like(array), shorter=1)
    assert 0 < (np.array(black) > 0).mean() < (np.array(of_file.draw(shorter=1)) > 0).mean()
    (shown,) = trained.predict(file)
    assert Image.open(io.BytesIO(shown._repr_png_())).size == (560, 392)
    file.unlink()
    with pytest.raises(detector.InputError, match="a.png"):
        of_file.draw()


def test_a_row_a_box(trained: Detector, digits: Path) -> None:
    file = sorted((digits / "val").iterdir())[0]
    one, other = trained.predict([file, np.zeros((40, 60, 3), np.uint8)], score=0)
    rows = one.rows()
    assert len(rows) == len(one) == 100
    third = rows[2]
    assert list(third) == ["image", "class_name", "class_id", "score", "x1", "y1", "x2", "y2"]
    assert (third["image"], third["class_name"]) == (str(file), one.class_names[2])
    assert trained.class_names[third["class_id"]] == third["class_name"]
    numbers = [third[key] for key in ("score", "x1", "y1", "x2", "y2")]
    assert numbers == [one.scores[2].item(), *one.boxes[2].tolist()]
    assert {row["image"] for row in other.rows()} == {None}


def test_detections_of_supervision(trained: Detector, digits: Path) -> None:
    """Also of an image in which there is nothing."""
    file = sorted((digits / "val").iterdir())[0]
    for one in [trained.predict(file, score=low)[0] for low in (0, 1)]:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # it has words for those without OpenCV
            theirs = one.to_supervision()
        assert np.array_equal(theirs.xyxy, one.boxes) and len(theirs) == len(one)
        assert np.array_equal(theirs.confidence, one.scores)
        assert np.array_equal(theirs.class_id, one.labels)
        assert theirs.data["class_name"].tolist() == one.class_names


def test_supervision_may_be_missing(
    trained: Detector, digits: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "supervision", None)
    (one,) = trained.predict(sorted((digits / "val").iterdir())[0])
    with pytest.raises(detector.InputError, match="pip install supervision"):
        one.to_supervision()


WRONG: dict[str, tuple[Callable[[Detector], object], str]] = {
    "a float image": (lambda d: d.predict(np.zeros((5, 5, 3))), r"images\[0\] is float64"),
    "channels first": (
        lambda d: d.predict([np.zeros((3, 5, 6), np.uint8)]),
        r"images\[0\] is uint8 of shape \(3, 5, 6\); .*\(height, width, 3\)",
    ),
    "channels last": (
        lambda d: d.predict([torch.zeros(5, 6, 3, dtype=torch.uint8)]), r"\(3, height, width\)"
    ),
    "a batch": (lambda d: d.predict(torch.zeros(2, 3, 5, 6, dtype=torch.uint8)), r"\(2, 3, 5, 6\)"),
    "no pixels": (lambda d: d.predict([torch.zeros(3, 0, 6, dtype=torch.uint8)]), r"\(3, 0, 6\)"),
    "16 bits": (lambda d: d.predict([Image.new("I;16", (4, 4))]), "mode 'I;16'"),
    "a number": (lambda d: d.predict([7]), r"images\[0\] is a int"),
    "a score": (lambda d: d.predict([], score=30), "score is 30"),
    "a word": (lambda d: d.predict([], score="best"), "score is 'best'; .* 'auto'"),
    "a score of a class": (lambda d: d.predict([], score={"two": 2}), "score of 'two' is 2"),
    "a class": (lambda d: d.predict([], score={"tow": 0.5}), "'tow'; did you mean 'two'"),
    "a checkpoint": (lambda d: detector.load("x", checkpoint="first"), "checkpoint is 'first'"),
    "a device": (lambda d: detector.load("x", device="gpu"), "device is 'gpu'"),
    "a GPU too many": (lambda d: detector.load("x", device="cuda:99"), "device is 'cuda:99'"),
    "an engine": (lambda d: detector.evaluate([], {}, engine="x"), "engine is 'x'"),
    "thresholds": (
        lambda d: detector.Matcher(foreground=0.4, background=0.5, low_quality=True),
        "background is 0.5 and foreground 0.4",
    ),
    "an optimizer": (
        lambda d: detector.TrainingStep(
            model=d.model, criterion=None, matcher=None, anchor_generator=None,
            optimizer=torch.optim.SGD(d.model.parameters()),
        ), "fused=True",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_argument_is_named(trained: Detector, case: str) -> None:
    call, words = WRONG[case]
    with pytest.raises(ValueError, match=words) as refusal:
        call(trained)
    assert not isinstance(refusal.value, detector.InputError)


TRUTH = {"images": [{"id": 1}], "categories": [{"id": 7, "name": "cat"}], "annotations": []}
UNUSABLE: dict[str, tuple[Callable[[Detector, Path], object], str]] = {
    "no run": (lambda d, p: detector.load(p / "none"), "none: there is no such folder"),
    "no checkpoint": (lambda d, p: detector.load(p), "it is not a run"),
    "no image": (lambda d, p: d.predict([p / "none.jpg"]), "none.jpg"),
    "an empty folder": (lambda d, p: d.predict(p), "there is no image in this folder"),
    "no match": (lambda d, p: d.predict(f"{p}/*.jpg"), r"\*.jpg: it matches nothing"),
    "no list": (lambda d, p: detector.evaluate({}, TRUTH), "^detections: "),
    "an unknown id": (
        lambda d, p: detector.evaluate(
            [{"image_id": 2, "category_id": 7, "bbox": [0, 0, 1, 1], "score": 1}], TRUTH
        ), "^detections: detection 0 has image_id 2",
    ),
    "no ground truth": (lambda d, p: detector.evaluate([], {}), "^ground_truth: 'images' is miss"),
    "no annotations": (lambda d, p: detector.CocoDataset(p / "a.json", p), "a.json"),
}  # fmt: skip


@pytest.mark.parametrize("case", UNUSABLE)
def test_what_cannot_be_used_is_named(trained: Detector, case: str, tmp_path: Path) -> None:
    call, words = UNUSABLE[case]
    with pytest.raises(detector.InputError, match=words):
        call(trained, tmp_path)


def test_evaluating_lists_is_evaluating_files(tmp_path: Path) -> None:
    """IoU 10/11 = .909 is above nine of the ten thresholds."""
    truth = {
        **TRUTH,
        "annotations": [{"id": 1, "image_id": 1, "category_id": 7, "bbox": [8, 8, 20, 10]}],
    }
    rows = [{"image_id": 1, "category_id": 7, "bbox": [8, 8, 20, 11], "score": 0.9}]
    (tmp_path / "truth.json").write_text(json.dumps(truth))
    (tmp_path / "rows.json").write_text(json.dumps(rows))
    by_lists = detector.evaluate(rows, truth)
    by_files = detector.evaluate(str(tmp_path / "rows.json"), tmp_path / "truth.json")
    assert by_lists.summary == by_files.summary
    assert by_lists.summary["AP"] == pytest.approx(0.9)


OUTSIDE = """
import sys
import detector
assert "torch" not in sys.modules, "import detector should be quick"
assert detector.__file__.startswith(sys.argv[1]), detector.__file__
(prediction,) = detector.load(sys.argv[2], device="cpu").predict(sys.argv[3], score=0)
print(len(prediction))
from detector.__main__ import main
dry = ["detector", "ablate", "--config", "ablations/gamma.yaml", "--dry-run"]
sys.argv = [*dry, "--set", *sys.argv[4:]]
sys.exit(main())
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel's content, in a folder of its own."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    source.mkdir()
    for name in ("detector", "configs"):
        shutil.copytree(HOME / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "setup.py", "MANIFEST.in", "README.md", "LICENSE"):
        shutil.copy(HOME / name, source / name)
    build = "import setuptools.build_meta as b; print(b.build_wheel('..'))"
    subprocess.run([sys.executable, "-c", build], cwd=source, check=True, capture_output=True)
    (wheel,) = folder.glob("*.whl")
    zipfile.ZipFile(wheel).extractall(folder / "site")
    return folder / "site"


def test_what_the_wheel_holds(installed: Path) -> None:
    package = installed / "detector"
    assert (package / "py.typed").is_file()
    for room in ("report", "check"):
        there, here = (
            {file.name for file in (top / room).iterdir() if file.suffix in (".j2", ".css", ".js")}
            for top in (package, HOME / "detector")
        )
        assert there == here != set()
    shipped, ours = (
        sorted(str(file.relative_to(top)) for file in top.rglob("*.yaml"))
        for top in (package / "configs", HOME / "configs")
    )
    assert shipped == ours
    (points,) = installed.glob("*.dist-info/entry_points.txt")
    assert "detector = detector.__main__:main" in points.read_text()
    assert sorted(path.name for path in installed.iterdir() if "dist-info" not in path.name) == [
        "detector"
    ]


def test_an_installed_package_trains_and_predicts(
    installed: Path, tiny: list[str], digits: Path, tmp_path: Path
) -> None:
    """In another folder, where no checkout can be imported."""
    site = next(path for path in sys.path if (Path(path) / "torch").is_dir())
    environment = {
        "PATH": os.environ["PATH"], "PYTHONPATH": f"{installed}{os.pathsep}{site}",
        "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "",
    }  # fmt: skip

    def python(*words: object) -> str:
        command = [sys.executable, "-S", *map(str, words)]  # -S: no path files of site-packages
        done = subprocess.run(
            command, cwd=tmp_path, env=environment, text=True, capture_output=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    words = ["--config", "digits.yaml", "--set", *tiny, "schedule.steps=2", "evaluation.every=9"]
    said = python("-m", "detector", "train", *words)
    assert "step 2/2" in said and (tmp_path / "runs/digits/checkpoints/last.pt").is_file()
    image = sorted((digits / "val").iterdir())[0]
    said = python("-c", OUTSIDE, installed, "runs/digits", image, *tiny)
    assert said.startswith("100\n") and said.count("-m detector train") > 3
