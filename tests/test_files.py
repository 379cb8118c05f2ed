"""Files that a command reads: their encodings, and what is said of one that is no JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from detector.errors import InputError
from detector.files import read_json, read_object

ENCODINGS = ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-be"]


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("read", [read_json, read_object])
def test_json_in_any_unicode_encoding(tmp_path: Path, read: Any, encoding: str) -> None:
    """As Notepad and PowerShell write it: with a byte-order mark, and in UTF-16."""
    path = tmp_path / "a.json"
    path.write_bytes(json.dumps({"é": "日"}, ensure_ascii=False).encode(encoding))
    assert read(path) == {"é": "日"}


@pytest.mark.parametrize("data", [b"", b"{", b"caf\xe9", b"[" * 100_000, b'{"a": 1} {}'])
def test_what_is_no_json_is_named(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(data)
    with pytest.raises(InputError, match=r"a\.json: this is not a JSON file"):
        read_json(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"a\.json: cannot be read \(No such"):
        read_json(tmp_path / "a.json")
