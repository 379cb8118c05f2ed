"""tools/predict.py: which files it reads, what it draws and writes, and what it says."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import HOME, Refused, Said, load_script
from PIL import Image

from detector.commands.predict import drawn_names
from detector.errors import run_command

Predict = Callable[..., tuple[int, Said]]


@pytest.fixture
def predict(
    finished: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Predict:
    """Calls the tool on the tiny run; its exit code and what it said."""

    def call(*words: object) -> tuple[int, Said]:
        script = load_script(HOME / "tools" / "predict.py")
        monkeypatch.setattr("sys.argv", ["predict.py", "--run", str(finished), *map(str, words)])
        code = run_command(script.main)
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
        assert 0 <= x <= x + width <= 90 + 1e-2 and 0 <= y <= y + height <= 64 + 1e-2


def test_the_score_by_either_option(predict: Predict, digits: Path, tmp_path: Path) -> None:
    """A run of four steps scores about .01: nothing at the default of .3, and the last one wins."""
    lowest = {}
    for name, words in {
        "default": [],
        "set": ["--set", "postprocess.nms=0.6", "postprocess.score=0"],
        "score": ["--score", 0],
        "score last": ["--set", "postprocess.score=0.9", "--score", 0],
        "set last": ["--score", 0, "--set", "postprocess.score=0.9"],
    }.items():
        code, _ = predict(digits / "val", "--output", tmp_path / name, *words)
        assert code == 0
        lowest[name] = len(entries(tmp_path / name))
    assert lowest["default"] == lowest["set last"] == 0
    assert lowest["set"] == lowest["score"] == lowest["score last"] == 600  # 6 images of 100


def test_a_score_that_is_none(refused: Refused, finished: Path, tmp_path: Path) -> None:
    words = ("--run", finished, "x.jpg", "--output", tmp_path / "p", "--score", "7")
    assert "postprocess.score" in refused("predict", *words).err


NAMES = {
    ("a/cat.jpg", "b/dog.png"): ["cat.jpg", "dog.jpg"],
    ("a/cat.jpg", "b/cat.jpg", "c/00001_cat.jpg"): [
        "00001_cat.jpg", "00002_cat.jpg", "00003_00001_cat.jpg",
    ],
    ("cat.jpg", "cat.png"): ["00001_cat.jpg", "00002_cat.jpg"],
    ("cat.jpg", "CAT.jpg"): ["00001_cat.jpg", "00002_CAT.jpg"],
    ("é" * 120 + "1.png", "é" * 120 + "2.png"): [f"0000{n}_{'é' * 100}.jpg" for n in (1, 2)],
}  # fmt: skip


@pytest.mark.parametrize("files", NAMES)
def test_no_drawn_picture_overwrites_another(files: tuple[str, ...]) -> None:
    assert list(drawn_names([Path(file) for file in files]).values()) == NAMES[files]
