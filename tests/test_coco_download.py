"""data/coco.py against a server on this machine: resume, verify, unpack, refuse."""

from __future__ import annotations

import hashlib
import io
import re
import socket
import threading
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from conftest import call_script, load_script

from detector.errors import InputError

ROOT = Path(__file__).parents[1]


coco = load_script(ROOT / "data" / "coco.py")


def zipped(*names: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        for name in names:
            file.writestr(name, f"content of {name}" * 100)
    return buffer.getvalue()


CONTENT = zipped("val2017/", "val2017/1.jpg", "val2017/2.jpg")


def archive(content: bytes = CONTENT, **changes: Any) -> Any:
    usual = {"path": "zips/val2017.zip", "folder": "val2017", "pattern": "*.jpg", "count": 2}
    sums = {"size": len(content), "md5": hashlib.md5(content).hexdigest()}
    return coco.Archive(**{**usual, **sums, **changes})


class Server(ThreadingHTTPServer):
    """Serves `content` under every path; knows ranges; can hang up after some bytes."""

    daemon_threads = True
    content = CONTENT
    ranges = True
    hang_up_after: int | None = None  # bytes of one answer
    asked: list[str]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        asked = self.headers.get("Range", "")
        self.server.asked.append(asked)
        content, match = self.server.content, re.fullmatch(r"bytes=(\d+)-", asked)
        start = int(match[1]) if match and self.server.ranges else 0
        self.send_response(206 if match and self.server.ranges else 200)
        self.send_header("Content-Length", str(len(content) - start))
        if match and self.server.ranges:
            span = f"bytes {start}-{len(content) - 1}/{len(content)}"
            self.send_header("Content-Range", span)
        self.end_headers()
        self.wfile.write(content[start:][: self.server.hang_up_after])

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")


@pytest.fixture
def server() -> Iterator[Server]:
    with Server(("127.0.0.1", 0), Handler) as running:
        running.asked = []
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def closed_port() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}"


def test_downloads_verifies_unpacks_and_does_nothing_twice(server: Server, tmp_path: Path) -> None:
    coco.bring(archive(), tmp_path, base_url=server.url)
    assert (tmp_path / "val2017/2.jpg").read_text() == "content of val2017/2.jpg" * 100
    assert sorted(p.name for p in tmp_path.iterdir()) == ["val2017", "val2017.zip"]
    coco.bring(archive(), tmp_path, base_url=server.url)
    assert server.asked == ["bytes=0-"]


def test_resumes_from_the_partial_file(server: Server, tmp_path: Path) -> None:
    (tmp_path / "val2017.zip.part").write_bytes(CONTENT[:1000])
    coco.bring(archive(), tmp_path, base_url=server.url)
    assert server.asked == ["bytes=1000-"]
    assert (tmp_path / "val2017.zip").read_bytes() == CONTENT


def test_goes_on_after_the_server_hangs_up(server: Server, tmp_path: Path) -> None:
    server.hang_up_after = 2000
    coco.bring(archive(), tmp_path, base_url=server.url)
    assert server.asked == [f"bytes={n}-" for n in range(0, len(CONTENT), 2000)]
    assert (tmp_path / "val2017.zip").read_bytes() == CONTENT


def test_starts_afresh_with_a_server_that_knows_no_ranges(server: Server, tmp_path: Path) -> None:
    server.ranges = False
    (tmp_path / "val2017.zip.part").write_bytes(b"x" * 1000)
    coco.bring(archive(), tmp_path, base_url=server.url)
    assert (tmp_path / "val2017.zip").read_bytes() == CONTENT


def test_a_server_that_sends_nothing_is_not_asked_for_ever(server: Server, tmp_path: Path) -> None:
    server.hang_up_after = 0
    with pytest.raises(InputError, match="cannot be downloaded"):
        coco.bring(archive(), tmp_path, base_url=server.url)
    assert len(server.asked) == 1


def test_a_file_of_another_size_is_not_mixed_in(server: Server, tmp_path: Path) -> None:
    """What a proxy's login page would do to a download of 19 GB."""
    server.content = b"<html>please log in</html>"
    server.ranges = False
    (tmp_path / "val2017.zip.part").write_bytes(CONTENT[:1000])
    with pytest.raises(InputError, match="offers 26 bytes"):
        coco.bring(archive(), tmp_path, base_url=server.url)
    assert (tmp_path / "val2017.zip.part").read_bytes() == CONTENT[:1000]


def test_a_wrong_checksum_unpacks_nothing(server: Server, tmp_path: Path) -> None:
    server.content = CONTENT[:-1] + b"?"
    with pytest.raises(InputError, match=r"MD5 sum \w{32}, expected"):
        coco.bring(archive(), tmp_path, base_url=server.url)
    assert [p.name for p in tmp_path.iterdir()] == ["val2017.zip.part"]


def test_an_archive_from_elsewhere_needs_no_network(tmp_path: Path) -> None:
    (tmp_path / "val2017.zip").write_bytes(CONTENT)
    coco.bring(archive(), tmp_path, base_url=closed_port())
    assert len(list((tmp_path / "val2017").glob("*.jpg"))) == 2


@pytest.mark.parametrize(
    "name", ["../evil.jpg", "val2017/../../evil.jpg", "/evil.jpg", "other/evil.jpg"]
)
def test_members_outside_of_the_folder_are_refused(tmp_path: Path, name: str) -> None:
    content = zipped("val2017/1.jpg", name)
    output = tmp_path / "coco"
    output.mkdir()
    (output / "val2017.zip").write_bytes(content)
    with pytest.raises(InputError, match="evil.jpg"):
        coco.bring(archive(content), output, base_url=closed_port())
    assert [p.name for p in output.iterdir()] == ["val2017.zip"]
    assert [p.name for p in tmp_path.iterdir()] == ["coco"]


def test_missing_images_are_counted(tmp_path: Path) -> None:
    (tmp_path / "val2017.zip").write_bytes(CONTENT)
    with pytest.raises(InputError, match="2 files .*expected 3"):
        coco.bring(archive(count=3), tmp_path, base_url=closed_port())
    assert [p.name for p in tmp_path.iterdir()] == ["val2017.zip"]
    (tmp_path / "val2017").mkdir()
    with pytest.raises(InputError, match="0 files .*expected 2"):
        coco.bring(archive(), tmp_path, base_url=closed_port())


def test_no_network_exits_2_with_one_sentence_and_keeps_the_part(tmp_path: Path) -> None:
    (tmp_path / "annotations_trainval2017.zip.part").write_bytes(b"begun")
    words = ["--only", "annotations", "--output", tmp_path, "--base-url", closed_port()]
    done = call_script(ROOT / "data" / "coco.py", *words)
    assert done.returncode == 2
    assert done.stderr.startswith("error: http://127.0.0.1") and done.stderr.count("\n") == 1
    assert "5 of 252,907,541 bytes" in done.stderr
    assert (tmp_path / "annotations_trainval2017.zip.part").read_bytes() == b"begun"
