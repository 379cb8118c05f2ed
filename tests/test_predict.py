"""tools/predict.py: which files it reads, what it draws and writes, and what it says."""

import json
import os
import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import HOME, Refused, Said, exit_code, load_script
from PIL import Image

from detector.cli.predict import drawn_names

Predict = Callable[..., tuple[int, Said]]


@pytest.fixture
def predict(
    finished: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Predict:
    """Calls the tool on the tiny run; its exit code and what it said."""

    def call(*words: object) -> tuple[int, Said]:
        script = load_script(HOME / "tools" / "predict.py")
        monkeypatch.setattr("sys.argv", ["predict.py", "--run", str(finished), *map(str, words)])
        code = exit_code(script.main)
        return code, Said(*capsys.readouterr())

    return call


@pytest.fixture
def oblong(tmp_path: Path) -> Path:
    path = tmp_path / "odd size.png"
    Image.new("L", (90, 50), 128).save(path)
    return path


def entries(output: Path) -> list[dict[str, Any]]:
    content: list[dict[str, Any]] = json.loads((output / "detections.json").read_text())
    return content


def test_images_and_folders(predict: Predict, digits: Path, oblong: Path, tmp_path: Path) -> None:
    code, said = predict(digits / "val", oblong, "--output", tmp_path / "p", "--score", 0)
    assert (code, said.err) == (0, "") and str(tmp_path / "p" / "detections.json") in said.out
    drawn = sorted(path.name for path in (tmp_path / "p").glob("*.jpg"))
    assert len(drawn) == 7 and "odd size.jpg" in drawn
    found = entries(tmp_path / "p")
    assert {entry["file_name"] for entry in found} >= {str(oblong)}
    assert found[0]["category"] in {"zero", "one", "two", "three", "four", "five"} | {
        "six", "seven", "eight", "nine",
    }  # fmt: skip
    for entry in found:
        x, y, width, height = entry["bbox"]
        right, bottom = Image.open(entry["file_name"]).size
        assert 0 <= x <= x + width <= right + 1e-2 and 0 <= y <= y + height <= bottom + 1e-2


def test_the_score_by_either_option(predict: Predict, digits: Path, tmp_path: Path) -> None:
    """A run of four steps scores about .01: nothing at the default of .3, and --score wins."""
    lowest = {}
    for name, words in {
        "default": [],
        "set": ["--set", "postprocess.nms=0.6", "postprocess.score=0"],
        "score": ["--score", 0],
        "score last": ["--set", "postprocess.score=0.9", "--score", 0],
        "high score": ["--score", 0.9, "--set", "postprocess.score=0"],
    }.items():
        code, _ = predict(digits / "val", "--output", tmp_path / name, *words)
        assert code == 0
        lowest[name] = len(entries(tmp_path / name))
    assert lowest["default"] == lowest["high score"] == 0
    assert lowest["set"] == lowest["score"] == lowest["score last"] == 600  # 6 images of 100


@pytest.mark.parametrize(
    "words, says",
    {
        "7": "--score: the score is 7.0; it should be a number from 0 to 1",
        "0.3 one=nan": "--score: the score of 'one' is nan",
        "zeroo=0.5": "--score: this detector has no class 'zeroo'; did you mean 'zero'?",
        "Katze=0.5": "--score: this detector has no class 'Katze'; it has zero, one, two",
        "0.3 cat.jpg": "--score: found 'cat.jpg', it should be a number, CLASS=NUMBER, or auto",
        "auto one=0.5": "--score: found 'auto', it should be",
    }.items(),
)
def test_a_score_that_is_none(
    refused: Refused, finished: Path, oblong: Path, tmp_path: Path, words: str, says: str
) -> None:
    said = refused(
        "predict", "--run", finished, oblong, "--output", tmp_path / "p", "--score", *words.split()
    )
    assert says in said.err and not (tmp_path / "p").exists()


NAMES = {
    ("a/cat.jpg", "b/dog.png"): ["cat.jpg", "dog.jpg"],
    ("a/cat.jpg", "b/cat.jpg", "c/00001_cat.jpg"): [
        "00001_cat.jpg", "00002_cat.jpg", "00003_00001_cat.jpg",
    ],
    ("a/cat.jpg", "a/cat.mov"): ["cat.jpg", "cat.mp4"],
    ("a/cat.mkv", "b/CAT.mp4"): ["00001_cat.mp4", "00002_CAT.mp4"],
    ("cat.jpg", "cat.png"): ["00001_cat.jpg", "00002_cat.jpg"],
    ("cat.jpg", "CAT.jpg"): ["00001_cat.jpg", "00002_CAT.jpg"],
    ("é" * 120 + "1.png", "é" * 120 + "2.png"): [f"0000{n}_{'é' * 100}.jpg" for n in (1, 2)],
}  # fmt: skip


@pytest.mark.parametrize("files", NAMES)
def test_no_drawn_picture_overwrites_another(files: tuple[str, ...]) -> None:
    assert list(drawn_names([Path(file) for file in files]).values()) == NAMES[files]


def test_what_cannot_be_read_is_said_and_left_out(
    predict: Predict, oblong: Path, tmp_path: Path
) -> None:
    """A pipe would hang, /dev/zero never ends; the images before and after them stay."""
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "a.jpg").write_text("not an image")
    Image.new("RGB", (40, 30)).save(folder / "b.jpg")
    os.mkfifo(folder / "c.jpg")
    (folder / "d.jpg").symlink_to("/dev/zero")
    (folder / "e.jpg").symlink_to("nowhere")
    code, said = predict(oblong, folder, "--output", tmp_path / "p", "--score", 0)
    assert code == 1
    for name in "acde":
        assert said.err.count(f"{folder / name}.jpg: ") == 1, name
    assert said.err.splitlines()[-1].startswith("warning: 4 of 6 files ")
    assert {entry["file_name"] for entry in entries(tmp_path / "p")} == {
        str(oblong), str(folder / "b.jpg"),
    }  # fmt: skip
    assert {path.name for path in (tmp_path / "p").glob("*.jpg")} == {"odd size.jpg", "b.jpg"}


@pytest.mark.parametrize("kind", ["text", "pipe", "missing", "empty folder"])
def test_nothing_to_predict_is_refused(predict: Predict, tmp_path: Path, kind: str) -> None:
    path = tmp_path / "named.jpg"
    match kind:
        case "text":
            path.write_text("not an image")
        case "pipe":
            os.mkfifo(path)
        case "empty folder":
            path.mkdir()
    code, said = predict(path, "--output", tmp_path / "p")
    assert code == 2 and "named.jpg" in said.err and "Traceback" not in said.err
    assert not (tmp_path / "p").exists()


def test_a_full_disk_leaves_no_half_picture(predict: Predict, digits: Path, tmp_path: Path) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (3000, limits[1]))
    try:
        code, said = predict(digits / "val", "--output", tmp_path / "p")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert code == 2 and ".jpg cannot be written whole" in said.err
    assert not list(tmp_path.iterdir())
