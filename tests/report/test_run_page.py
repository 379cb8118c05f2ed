"""A run's page as a file: alone, escaped, readable without eyes, and with numbers made by hand."""

import json
import os
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import HOME, Command, Refused
from made_up import Reader
from PIL import Image

from detector import build
from detector.cli.report import main
from detector.errors import InputError
from detector.files import write_json
from detector.report.run_images import jpeg_address
from detector.report.run_page import confusions, training_seconds

HOSTILE = '<b>&"</script>'
AP = (51 + 50 * 2 / 3) / 101 / 2
IMAGES = {7: (64, 48), 3: (48, 64), 5: (90, 40)}  # width, height
BOXES: list[dict[str, Any]] = [
    {"image_id": 7, "category_id": 2, "bbox": [0, 0, 10, 20], "iscrowd": 0},
    {"image_id": 7, "category_id": 9, "bbox": [30, 10, 12, 10], "iscrowd": 0},
    {"image_id": 3, "category_id": 2, "bbox": [5, 5, 20, 10], "iscrowd": 0},
    {"image_id": 3, "category_id": 9, "bbox": [20, 30, 20, 20], "iscrowd": 1},
]
FOUND: list[tuple[int, int, list[float], float]] = [
    (7, 2, [0, 0, 10, 20], 0.9),  # right
    (7, 2, [30, 10, 12, 10], 0.8),  # the box of a dog
    (3, 2, [5, 5, 20, 10], 0.7),  # right
    (3, 9, [22, 32, 10, 10], 0.95),  # in a crowd
    (5, 9, [50, 5, 9, 8], 0.6),  # nothing there
]


def made(
    folder: Path,
    names: Sequence[str] = (HOSTILE, "dog"),
    boxes: Sequence[dict[str, Any]] = BOXES,
    found: Sequence[tuple[int, int, list[float], float]] = FOUND,
    ap: float = AP,
) -> Path:
    """A run with an evaluation, written by hand, whose best checkpoint is older and no file."""
    ids = [2, 9, *range(10, 100)][: len(names)]
    write_data(folder / "data", dict(zip(ids, names, strict=True)), boxes)
    run = folder / "run <1>"
    write_run(run, folder / "data")
    evaluation, best = run / "evaluation" / "best", run / "checkpoints" / "best.pt"
    for file in (evaluation, best.parent):
        file.mkdir(parents=True)
    best.touch()
    os.utime(best, (1e9, 1e9))
    keys = ("image_id", "category_id", "bbox", "score")
    write_json(evaluation / "detections.json", [dict(zip(keys, f, strict=True)) for f in found])
    metrics = {"AP": ap, "images": 3, "detections": len(found), "mine/a": 12.5}
    write_json(evaluation / "metrics.json", metrics)
    return run


def write_data(data: Path, names: dict[int, str], boxes: Sequence[dict[str, Any]]) -> None:
    data.mkdir()
    entries = []
    for number, size in IMAGES.items():
        Image.new("RGB", size, (90, 120, 60)).save(data / f"<i>{number}.png")
        entry = {"id": number, "file_name": f"<i>{number}.png"}
        entries.append(entry | dict(zip(("width", "height"), size, strict=True)))
    write_json(data / "truth.json", {
        "images": entries,
        "categories": [{"id": i, "name": name} for i, name in names.items()],
        "annotations": [{"id": n, **box} for n, box in enumerate(boxes, start=1)],
    })  # fmt: skip


def write_run(folder: Path, data: Path) -> None:
    folder.mkdir()
    config = build.load_config(HOME / "configs" / "digits.yaml", [
        f"data.val.images={data}", f"data.val.annotations={data}/truth.json",
        "evaluation.metrics=[anybody:mine]",
    ])  # fmt: skip
    (folder / "config.yaml").write_text(config.to_yaml())
    write_json(folder / "environment.json", {
        "command": ["train.py", "--config", "<c>.yaml"], "started": "2026-11-20T10:11:12+00:00",
        "git": "0123456789abcdef+", "gpus": [], "threads": 3,
    })  # fmt: skip
    shares = {f"{of}_share/{group}": share for of in ("loss", "gradient")
              for group, share in zip(("positives", "hard_negatives", "easy_negatives"),
                                      (0.5, 0.2, 0.3), strict=True)}  # fmt: skip
    step = {"loss/total": 1.25, "loss/classification": 1.0, "loss/box": 0.25,
            "learning_rate": 0.01, "images_per_second": 8.0, "anchors/foreground": 12.0,
            "anchors/background": 3456.0, **shares}  # fmt: skip
    lines = [{"step": 20, "epoch": 1.0, **step}, {"step": 40, "epoch": 2.0, **step},
             {"step": 40, "epoch": 2.0, "validation/loss": 0.75, "validation/AP": 0.25,
              "validation/AP50": 0.5, "validation/AP75": -1.0}]  # fmt: skip
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def page_of(run: Path) -> Reader:
    assert main(["--run", str(run)]) == 0
    return reader((run / "report.html").read_text(encoding="utf-8"))


def reader(page: str) -> Reader:
    return Reader(re.sub("<script>.*?</script>", "", page, flags=re.DOTALL))


def text_of(read: Reader) -> str:
    return " ".join(" ".join(read.text).split())


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run, with its page, that most tests look at."""
    run = made(tmp_path_factory.mktemp("made"))
    page_of(run)
    return run


@pytest.fixture(scope="module")
def page(run: Path) -> str:
    return (run / "report.html").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def read(page: str) -> Reader:
    return reader(page)


@pytest.fixture(scope="module")
def text(read: Reader) -> str:
    return text_of(read)


def test_numbers_are_those_made_by_hand(read: Reader, text: str) -> None:
    """AP of the first class: precision 1 at 51 of 101 recalls, 2/3 at 50; of the dog: 0.

    F1 of both classes together: 1/2, 2/5, 2/3 and 4/7 at scores .9, .8, .7 and .6.
    """
    assert "older than" not in text
    assert "AP 0.417 AP50 0.417 AP75 0.417 AR100 0.500" in text
    assert "3 images with 3 boxes of 2 classes" in text and "mine/a 12.5" in text
    assert read.table("Each class") == [
        ["class", "boxes", "AP", "AP50", "AR100", "best F1", "at score"],
        [HOSTILE, "2", "0.835", "0.835", "1.000", "0.800", "0.700"],
        ["dog", "1", "0.000", "0.000", "0.000", "0.000", "–"],
    ]
    assert "together is highest, 0.667, for detections that score at least 0.700." in text
    assert read.table("Boxes of each class") == [
        ["truth", HOSTILE, "dog", "missed"],
        [HOSTILE, "2", "·", "·"],
        ["dog", "1", "·", "·"],
        ["background", "·", "·", ""],
    ]
    assert f"dog taken for {HOSTILE}: 1 of 1" in text
    # with the name mended both classes have their right detections first: AP50 1
    assert "classification 0.583, localisation 0.000" in text


def test_what_the_training_left(text: str) -> None:
    # 40 steps of 16 images at 8 a second
    assert "40 steps, 2 epochs, 1.3 minutes without validation" in text
    assert "positives gave 50 % of the loss, hard negatives 20 % and easy negatives 30 %" in text
    assert "12 foreground and 3,456 background anchors a step. A negative" in text
    assert "loss was 1.250 in training and 0.750 in validation" in text
    assert "AP was 0.250, AP50 0.500 and AP75 –." in text
    assert "A run of <c>.yaml" in text and "2026-11-20 10:11 UTC" in text
    assert "CPU, 3 threads" in text and "0123456789ab+" in text
    assert "python train.py --config '<c>.yaml'" in text and "kind: focal" in text


def test_the_loss_is_called_what_it_is(tmp_path: Path, text: str) -> None:
    """One kind is the focal loss and cross-entropy: the value of gamma says which."""
    assert "Loss focal loss, sigmoid, background as negatives" in text
    config = (run := made(tmp_path)) / "config.yaml"
    set_key = "loss.classification.gamma=0"
    config.write_text(build.load_config(config, [set_key]).to_yaml())
    assert "Loss cross-entropy, sigmoid, background as negatives" in text_of(page_of(run))


def test_seconds_are_of_training_records_alone() -> None:
    records = [{"step": 10, "images_per_second": 5.0}, {"step": 10, "validation/AP": 0.1},
               {"step": 16, "images_per_second": 12.0}]  # fmt: skip
    assert training_seconds(records, 4) == pytest.approx(10 * 4 / 5 + 6 * 4 / 12)
    assert training_seconds([], 4) is None


def test_the_image_with_errors_is_told_and_drawn(read: Reader) -> None:
    """The false positive of .6 is below the score that counts: its image has no error."""
    pictures = {a["alt"]: a["src"] for tag, a in read.elements if tag == "img"}
    told = {alt: src for alt, src in pictures.items() if "<i>" in (alt or "")}
    errors = f"1 of 2 boxes missed, 1 false positive: {HOSTILE} 0.80"
    assert list(told) == ["Truth in <i>7.png: 2 boxes", f"Detections in <i>7.png: {errors}"]
    assert len(set(told.values())) == 2
    assert all((src or "").startswith("data:image/jpeg;base64,") for src in told.values())


def test_needs_nothing_else_and_is_small(page: str, read: Reader) -> None:
    assert len(page) < 3e6
    assert not re.search(r"https?:|//[a-z]|@import|@font-face|url\((?!#)", page)
    assert not {tag for tag, _ in read.elements} & {"link", "iframe", "object"}
    for _, attributes in read.elements:
        for name in ("src", "srcset"):
            assert (attributes.get(name) or "data:").startswith("data:")
        for name in ("href", "data", "action"):
            assert (attributes.get(name) or "#").startswith("#")
    ids = [attributes["id"] for _, attributes in read.elements if "id" in attributes]
    assert {a["href"] for tag, a in read.elements if tag == "a"} <= {f"#{name}" for name in ids}
    assert len(ids) == len(set(ids))


def test_reads_without_eyes(page: str, read: Reader) -> None:
    """One h1, headings that skip no level, images that say what they show, heads with a scope."""
    levels = [int(tag[1]) for tag, _ in read.elements if re.fullmatch("h[1-6]", tag)]
    assert levels.count(1) == 1 and levels[0] == 1
    assert all(after <= before + 1 for before, after in zip(levels, levels[1:], strict=False))
    assert all(a.get("alt") for tag, a in read.elements if tag == "img")
    assert {a.get("scope") for tag, a in read.elements if tag == "th"} == {"row", "col"}
    scrolled = [a for _, a in read.elements if a.get("class") in {"plot", "table"}]
    assert scrolled and all(a.get("tabindex") == "0" and a["aria-label"] for a in scrolled)
    assert 'setAttribute("aria-sort"' in page and 'createElement("button")' in page


def test_names_are_escaped(page: str, read: Reader) -> None:
    assert "<b>&" not in page and "<i>" not in page and "<c>" not in page and "run <1>" in read.text
    assert page.count("<script>") == page.count("</script>") == 1


def test_the_page_is_made_anew_and_the_same(run: Path, page: str) -> None:
    (run / "report.html").write_text("an old one")
    page_of(run)
    assert (run / "report.html").read_text(encoding="utf-8") == page
    assert not list(run.glob(".*"))


def test_noise_stays_small() -> None:
    """24 pictures of noise, which JPEG cannot make small, leave a megabyte for the rest."""
    noise = torch.randint(0, 256, (3, 600, 640), dtype=torch.uint8)
    assert 24 * len(jpeg_address(noise)) < 2e6


def test_of_one_class(tmp_path: Path) -> None:
    boxes = [box | {"category_id": 2} for box in BOXES]
    found = [(image, 2, box, score) for image, _, box, score in FOUND]
    # crowds ignore the detection of .95; all other boxes are found before the last detection
    read = page_of(made(tmp_path, ["cell"], boxes, found, ap=1.0))
    text = text_of(read)
    assert "3 images with 3 boxes of 1 class " in text and "of each class." not in text
    assert "No box was taken for another class" in text and "No image has an error" in text
    assert read.table("Each class")[1:] == [["cell", "3", *["1.000"] * 4, "0.700"]]


def test_without_detections(tmp_path: Path) -> None:
    read = page_of(made(tmp_path, found=[], ap=0.0))
    text = text_of(read)
    assert "AP 0.000 AP50 0.000 AP75 0.000 AR100 0.000" in text
    assert "Curves: missing. There are no detections, or no boxes." in text
    assert read.table("Boxes of each class")[1] == [HOSTILE, "·", "·", "2"]
    assert "1 of 1 box missed, no false positive" in text


def test_without_boxes(tmp_path: Path) -> None:
    read = page_of(made(tmp_path, boxes=[], ap=-1.0))
    text = text_of(read)
    assert "AP – AP50 – AP75 – AR100 –" in text and "Kinds of error: missing." in text
    assert read.table("Each class")[1] == [HOSTILE, "0", "–", "–", "–", "–", "–"]
    assert f"no boxes, 2 false positives: dog 0.95, {HOSTILE} 0.70" in text


def test_of_many_classes(tmp_path: Path) -> None:
    """Of 80 the two that have a box or a detection."""
    names = [f"a rather long name {k}" for k in range(80)]
    read = page_of(made(tmp_path, names))
    head, *rows = read.table("Boxes of each class")
    assert head == ["truth", names[0], names[1], "missed"] and len(rows) == 3
    assert rows[1][:2] == [names[1], "1"] and "2 of 80 classes: those" in text_of(read)
    assert len(read.table("Each class")) == 81
    assert (tmp_path / "run <1>" / "report.html").stat().st_size < 3e6


def test_the_matrix_of_many_classes_has_those_that_are_confused_most() -> None:
    """Class k is taken k times for class 0, and found once; the last column and row stay."""
    matrix = np.zeros((21, 21), np.int64)
    matrix[:20, 0], matrix[:20, 20], matrix[20, :20] = np.arange(20), 3, 7
    matrix[range(20), range(20)] = 1
    told = confusions([f"c{k}" for k in range(20)], matrix)
    assert told.names == ["c0", *(f"c{k}" for k in range(6, 20))] and told.classes == 20
    assert told.counts[-2].tolist() == [19, *[0] * 13, 1, 3] and told.counts[-1, -2] == 7
    assert told.shares[-2, 0] == 19 / 23
    assert told.frequent[0] == "c19 taken for c0: 19 of 23" and len(told.frequent) == 10


def test_a_run_that_diverged_before_its_first_checkpoint(tmp_path: Path) -> None:
    folder = made(tmp_path)
    for name in ("evaluation", "checkpoints"):
        shutil.rmtree(folder / name)
    (folder / "failure").mkdir()
    readings = {"not finite": "the loss", "loss/total": "nan"}
    write_json(folder / "failure" / "report.json", {"step": 41, "images": [], "readings": readings})
    read = page_of(folder)
    text = text_of(read)
    assert "diverged at step 41: the loss was not finite. There is no checkpoint" in text
    assert "Classes" not in text and "Losses over steps." in text


def test_an_old_evaluation_and_no_records(tmp_path: Path) -> None:
    folder = made(tmp_path)
    (folder / "metrics.jsonl").unlink()
    (folder / "environment.json").unlink()
    os.utime(folder / "checkpoints" / "best.pt", (4e9, 4e9))
    text = text_of(page_of(folder))
    for part in ("Shares", "Losses", "Progress"):
        assert f"{part}: missing." in text
    assert "no step that was logged" in text and "(the run left no environment.json)" in text
    assert "older than checkpoints/best.pt: the training went on since" in text


def test_figures_of_other_boxes_are_refused(tmp_path: Path) -> None:
    """Else a page would show the figures of one validation set and the images of another."""
    folder = made(tmp_path, boxes=BOXES[:2])
    with pytest.raises(InputError, match=r"other images or boxes .*\(AP 0\.4175 of 3 images there"):
        main(["--run", str(folder)])
    assert not (folder / "report.html").exists()


def test_one_command_evaluates_and_makes_the_page(
    tool: Command, finished: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(finished, tmp_path / "run"))
    shutil.rmtree(folder / "evaluation", ignore_errors=True)
    done = tool("report", "--run", folder)
    assert done.returncode == 0 and done.stdout.endswith(f"{folder}/report.html\n")
    metrics = json.loads((folder / "evaluation" / "best" / "metrics.json").read_text())
    text = text_of(reader((folder / "report.html").read_text(encoding="utf-8")))
    assert f"AP {metrics['AP']:.3f} AP50 {metrics['AP50']:.3f}" in text
    assert "4 steps, 2 epochs" in text and "configs/digits.yaml" in text


def test_a_score_is_written_so_that_its_detection_counts(tmp_path: Path) -> None:
    """0.6996 is 0.700 when rounded, and would then leave out the last right detection."""
    found = [(*one[:3], 0.6996) if one[3] == 0.7 else one for one in FOUND]
    rows = page_of(made(tmp_path, found=found)).table("Each class")
    assert rows[1][-2:] == ["0.800", "0.699"]


def test_an_evaluation_that_is_not_whole(refused: Refused, tmp_path: Path) -> None:
    folder = made(tmp_path)
    (folder / "evaluation" / "best" / "metrics.json").unlink()
    assert "metrics.json: cannot be read (No such file" in refused("report", "--run", folder).err


def test_wrong_input(refused: Refused, finished: Path, tmp_path: Path) -> None:
    assert "no such folder" in refused("report", "--run", tmp_path / "nothing").err
    (tmp_path / "folder").mkdir()
    assert "not a run of detector train" in refused("report", "--run", tmp_path / "folder").err
    shutil.copy(finished / "config.yaml", tmp_path / "folder")
    assert "there is no such checkpoint" in refused("report", "--run", tmp_path / "folder").err
    assert sorted(p.name for p in (tmp_path / "folder").iterdir()) == ["config.yaml"]
