"""Files of state appear whole, and only data is read from them."""

import errno
import os
import pickle
import shutil
from pathlib import Path

import pytest
import torch

from detector.engine import checkpoint
from detector.errors import InputError


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    path = tmp_path / "checkpoints" / "last.pt"
    checkpoint.save_state({"weights": torch.arange(3)}, path)
    assert checkpoint.load_state(path)["weights"].tolist() == [0, 1, 2]
    assert os.listdir(path.parent) == ["last.pt"]


def test_the_old_file_stays_until_the_new_one_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "last.pt"
    checkpoint.save_state({"step": torch.tensor(1)}, path)

    def fail(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="No space left on device: .*last.pt"):
        checkpoint.save_state({"step": torch.tensor(2)}, path)
    assert checkpoint.load_state(path)["step"] == 1
    assert os.listdir(tmp_path) == ["last.pt"]


def test_a_second_name_takes_no_room(tmp_path: Path) -> None:
    best, last = tmp_path / "best.pt", tmp_path / "last.pt"
    checkpoint.save_state({"step": torch.tensor(1)}, last)
    checkpoint.save_state({"step": torch.tensor(2)}, best, last)
    assert best.samefile(last) and checkpoint.load_state(last)["step"] == 2
    checkpoint.save_state({"step": torch.tensor(3)}, last)
    assert checkpoint.load_state(best)["step"] == 2 and checkpoint.load_state(last)["step"] == 3
    assert sorted(os.listdir(tmp_path)) == ["best.pt", "last.pt"]


def test_a_draft_that_a_killed_process_left_is_not_written_through(tmp_path: Path) -> None:
    best, last = tmp_path / "best.pt", tmp_path / "last.pt"
    checkpoint.save_state({"step": torch.tensor(2)}, best)
    os.link(best, tmp_path / ".last.pt.draft")
    checkpoint.save_state({"step": torch.tensor(3)}, last)
    assert checkpoint.load_state(best)["step"] == 2 and checkpoint.load_state(last)["step"] == 3


def test_a_disk_without_links_gets_two_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(source: Path, target: Path) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", fail)
    best, last = tmp_path / "best.pt", tmp_path / "last.pt"
    checkpoint.save_state({"step": torch.tensor(2)}, best, last)
    assert checkpoint.load_state(best) == checkpoint.load_state(last) == {"step": torch.tensor(2)}
    assert not best.samefile(last)
    assert sorted(os.listdir(tmp_path)) == ["best.pt", "last.pt"]


def test_a_run_folder_that_was_deleted_is_not_made_again(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"run: .*deleted.*last\.pt.*--output"):
        checkpoint.save_state(
            {"step": torch.tensor(1)}, tmp_path / "run" / "checkpoints" / "last.pt"
        )
    assert not (tmp_path / "run").exists()


def test_a_run_folder_that_is_deleted_while_a_checkpoint_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "run").mkdir()
    monkeypatch.setattr(os, "fsync", lambda descriptor: shutil.rmtree(tmp_path / "run"))
    with pytest.raises(InputError, match=r"run: .*deleted.*last\.pt.*--output"):
        checkpoint.save_state(
            {"step": torch.tensor(1)}, tmp_path / "run" / "checkpoints" / "last.pt"
        )


class Boom:
    """Something that would run code when it is unpickled."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("touch pwned",)


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", pickle.dumps(Boom())])
def test_what_is_no_checkpoint_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "odd.pt"
    path.write_bytes(content)
    with pytest.raises(InputError, match="odd.pt"):
        checkpoint.load_state(path)
    assert not Path("pwned").exists()


def test_code_in_a_torch_file_is_not_run(tmp_path: Path) -> None:
    torch.save({"model": Boom()}, tmp_path / "evil.pt")
    with pytest.raises(InputError, match="evil.pt"):
        checkpoint.load_state(tmp_path / "evil.pt")
    assert not Path("pwned").exists()


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="none.pt"):
        checkpoint.load_state(tmp_path / "none.pt")
