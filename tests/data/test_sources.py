"""Which files are meant by files, folders and patterns."""

from pathlib import Path

import pytest

from detector.data.sources import source_files
from detector.errors import InputError


def touch(folder: Path, names: str) -> list[Path]:
    files = [folder / name for name in names.split()]
    for file in files:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    return files


def test_folders_take_every_kind_but_hidden_files(tmp_path: Path) -> None:
    """And no videos, as phones put them beside photographs."""
    taken = touch(
        tmp_path, "a.jpg b.JPEG c.jfif d.gif e.ppm f.avif g.jp2 h.mpo i.TIF j.webp s/k.png"
    )
    touch(tmp_path, "._a.jpg .git/b.png __MACOSX/a.jpg s/.c/d.jpg notes.txt page.pdf art.eps k.mov")
    (tmp_path / "folder.jpg").mkdir()
    assert source_files([tmp_path]) == source_files([str(tmp_path)]) == taken
    assert source_files([tmp_path / "._a.jpg"]) == [tmp_path / "._a.jpg"]  # as it is named


def test_patterns_take_images_videos_and_folders(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    touch(Path(), "b.jpg a.png c.MOV notes.txt .d.jpg sub/e.jpg sub/f.mp4 sub/deep/g.jpg")
    for pattern, expected in {
        "*": "a.png b.jpg c.MOV sub/deep/g.jpg sub/e.jpg",
        "?.jpg": "b.jpg",
        "[ab].*": "a.png b.jpg",
        "**/*.jpg": "b.jpg sub/deep/g.jpg sub/e.jpg",
        "sub/*.mp4": "sub/f.mp4",
    }.items():
        assert source_files([pattern]) == [Path(name) for name in expected.split()], pattern


def test_each_file_once_in_the_order_of_its_first_name(tmp_path: Path) -> None:
    a, b = touch(tmp_path, "a.jpg b.jpg")
    assert source_files([b, tmp_path, str(tmp_path / "*.jpg")]) == [b, a]


def test_a_file_with_the_name_of_a_pattern_is_itself(tmp_path: Path) -> None:
    """[1] would match 1 alone."""
    file, _ = touch(tmp_path, "a[1].jpg a1.jpg")
    assert source_files([file]) == [file]


def test_what_means_no_file_is_refused(tmp_path: Path) -> None:
    touch(tmp_path, "text/a.txt text/b.txt clips/a.mp4")
    for name, words in {
        "none.jpg": "none.jpg: there is no such image, video or folder",
        "none*.jpg": r"none\*.jpg: it matches nothing",
        "text/*": r"text/\*: of 2 matches none is an image",
        "text": "text: there is no image in this folder",
        "clips": r"clips: there is no image .* pattern, such as '.*clips/\*.mp4'",
    }.items():
        with pytest.raises(InputError, match=words):
            source_files([tmp_path / name])


def test_an_empty_name_is_not_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As which pathlib takes it: an unset variable of a shell would predict whatever is here."""
    monkeypatch.chdir(tmp_path)
    touch(tmp_path, "a.jpg")
    with pytest.raises(InputError, match="named by an empty text"):
        source_files([""])
    assert source_files(["."]) == [Path("a.jpg")]
