"""Files of state appear whole, and only data is read from them."""

import os
import pickle
from pathlib import Path

import pytest
import torch

from detector.engine import checkpoint
from detector.errors import InputError


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    path = tmp_path / "checkpoints" / "last.pt"
    checkpoint.save({"step": 3, "weights": torch.arange(3)}, path)
    state = checkpoint.load(path)
    assert state["step"] == 3 and state["weights"].tolist() == [0, 1, 2]
    assert os.listdir(path.parent) == ["last.pt"]


def test_the_old_file_stays_until_the_new_one_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "last.pt"
    checkpoint.save({"step": 1}, path)

    def fail(descriptor: int) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="disk full"):
        checkpoint.save({"step": 2}, path)
    assert checkpoint.load(path)["step"] == 1


class Boom:
    """Something that would run code when it is unpickled."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("touch pwned",)


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", pickle.dumps(Boom())])
def test_what_is_no_checkpoint_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "odd.pt"
    path.write_bytes(content)
    with pytest.raises(InputError, match="odd.pt"):
        checkpoint.load(path)
    assert not Path("pwned").exists()


def test_code_in_a_torch_file_is_not_run(tmp_path: Path) -> None:
    torch.save({"model": Boom()}, tmp_path / "evil.pt")
    with pytest.raises(InputError, match="evil.pt"):
        checkpoint.load(tmp_path / "evil.pt")
    assert not Path("pwned").exists()


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="none.pt"):
        checkpoint.load(tmp_path / "none.pt")
