"""tools/predict.py: which files it reads, what it draws and writes, and what it says."""

import json
import os
import resource
import sys
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from conftest import HOME, Refused, Said, exit_code, load_script
from PIL import Image
from videos import remuxed

from detector.cli.predict import drawn_names
from detector.data.video import opened, written

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
        "=0.5": "--score: found '=0.5', it should be a number, CLASS=NUMBER",
        "0.3 0.5": "--score: found 0.3 0.5, which gives two scores for the same class",
        "one=0.3 one=0.3": "gives two scores for the same class",
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


def clip(file: Path, frames: int, size: tuple[int, int] = (48, 64)) -> Path:
    """Noise, ten frames a second."""
    with written(file, Fraction(10)) as add:
        for number in range(frames):
            add(Image.effect_noise(size, 99).convert("RGB"), number / 10)
    return file


def test_videos_beside_images(predict: Predict, oblong: Path, tmp_path: Path) -> None:
    """Ids run on over images and frames; a drawn video has the size and times of its own."""
    file = clip(tmp_path / "a.mp4", 3)
    code, said = predict(oblong, file, oblong, "--output", tmp_path / "p", "--score", 0)
    assert (code, said.err) == (0, "")
    found = entries(tmp_path / "p")
    assert [len([e for e in found if e["image_id"] == n]) for n in (1, 2, 3, 4)] == [100] * 4
    assert all("frame" not in entry for entry in found[:100])
    assert {(e["image_id"], e["frame"], e["time"]) for e in found[100:]} == {
        (2, 0, 0.0), (3, 1, 0.1), (4, 2, 0.2),
    }  # fmt: skip
    assert {entry["file_name"] for entry in found[100:]} == {str(file)}
    with opened(tmp_path / "p" / "a.mp4") as drawn:
        frames = list(drawn)
    assert [frame.time for frame in frames] == pytest.approx([0, 0.1, 0.2])
    assert drawn.rate == 10 and frames[0].image.shape == (3, 64, 48)


def test_a_video_that_ends_early_keeps_what_is_whole(predict: Predict, tmp_path: Path) -> None:
    """Matroska: MP4 has its index at the end, without which nothing of it can be read."""
    whole, file = clip(tmp_path / "a.mp4", 20), tmp_path / "b.mkv"
    remuxed(whole, file)
    file.write_bytes(file.read_bytes()[: file.stat().st_size * 6 // 10])
    whole.write_bytes(whole.read_bytes()[:5000])
    code, said = predict(file, whole, "--output", tmp_path / "p", "--score", 0)
    assert code == 1
    first, second, last = said.err.splitlines()
    with opened(tmp_path / "p" / "b.mp4") as drawn:
        count = len(list(drawn))
    assert 8 < count < 13 and drawn.ended is None
    assert first.startswith(f"warning: {file}: ") and f"the {count} frames before" in first
    assert second.startswith(f"warning: {whole}: this is not a whole, readable video")
    assert last == "warning: 2 of 2 files could not be read, or not to their end"
    assert {e["frame"] for e in entries(tmp_path / "p")} == set(range(count))
    assert {path.name for path in (tmp_path / "p").iterdir()} == {"b.mp4", "detections.json"}


def test_a_full_disk_leaves_no_half_video(predict: Predict, tmp_path: Path) -> None:
    file = clip(tmp_path / "a.mp4", 30)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (3000, limits[1]))
    try:
        code, said = predict(file, "--output", tmp_path / "p")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert code == 2 and "a.mp4 cannot be written whole" in said.err
    assert list(tmp_path.iterdir()) == [file]


def test_a_video_without_pyav_is_refused(
    predict: Predict, oblong: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before the first image, not after hours of them."""
    monkeypatch.setitem(sys.modules, "av", None)
    (tmp_path / "a.mp4").touch()
    code, said = predict(oblong, tmp_path / "a.mp4", "--output", tmp_path / "p")
    assert code == 2 and "pip install 'anchorlab[video]'" in said.err
    assert not (tmp_path / "p").exists()


def test_scores_of_classes(predict: Predict, digits: Path, tmp_path: Path) -> None:
    """Of the tiny run's many detections above 0, those of one class alone."""
    code, _ = predict(
        digits / "val", "--output", tmp_path / "p", "--score", 1, "--score", "three=0"
    )
    assert code == 0
    assert {entry["category"] for entry in entries(tmp_path / "p")} == {"three"}


def test_patterns_are_for_the_command_to_read(
    predict: Predict, oblong: Path, tmp_path: Path
) -> None:
    code, _ = predict(tmp_path / "odd*.png", "--output", tmp_path / "p")
    assert code == 0 and (tmp_path / "p" / "odd size.jpg").is_file()
    code, said = predict(tmp_path / "even*.png", "--output", tmp_path / "q")
    assert code == 2 and "even*.png: it matches nothing" in said.err
