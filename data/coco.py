"""Download COCO 2017, verify it, unpack it: annotations/, train2017/, val2017/ under --output.

Run it again after an interruption: it goes on where it stopped. Archives that lie in --output
already, brought from elsewhere, are verified and unpacked without a network. Sizes and MD5 sums are
those of https://cocodataset.org (Lin et al. 2014) as many public mirrors and scripts record them.
"""

from __future__ import annotations

import argparse
import hashlib
import http.client
import re
import shutil
import ssl
import sys
import urllib.error
import urllib.request
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import NoReturn

from tqdm import tqdm

from detector.errors import InputError, exit_codes

BASE_URL = "http://images.cocodataset.org"  # what arrives is trusted for its MD5 sum alone
CHUNK = 1 << 20  # bytes
TIMEOUT = 60.0  # seconds without a byte
NETWORK_TROUBLE = (
    urllib.error.URLError,
    http.client.HTTPException,
    ConnectionError,
    TimeoutError,
    ssl.SSLError,
)


@dataclass(frozen=True)
class Archive:
    """A zip file of one folder."""

    path: str  # under the base URL
    size: int  # bytes
    md5: str
    folder: str  # what it unpacks to
    pattern: str  # of the files that the folder must have ...
    count: int  # ... and how many

    @property
    def name(self) -> str:
        """The file's name."""
        return PurePosixPath(self.path).name


ARCHIVES = {
    "annotations": Archive(
        path="annotations/annotations_trainval2017.zip",
        size=252_907_541,
        md5="f4bbac642086de4f52a3fdda2de5fa2c",
        folder="annotations",
        pattern="instances_*2017.json",
        count=2,
    ),
    "val": Archive(
        path="zips/val2017.zip",
        size=815_585_330,
        md5="442b8da7639aecaf257c1dceb8ba8c80",
        folder="val2017",
        pattern="*.jpg",
        count=5_000,
    ),
    "train": Archive(
        path="zips/train2017.zip",
        size=19_336_861_798,
        md5="cced6f7f71b7629ddf16f17bbcfab6b2",
        folder="train2017",
        pattern="*.jpg",
        count=118_287,
    ),
}


def bring(archive: Archive, output: Path, *, base_url: str) -> None:
    """Leave the archive's folder, complete, in `output`; do only what is still missing."""
    folder, file = output / archive.folder, output / archive.name
    if folder.exists():
        require_complete(folder, archive)
        print(f"{folder} is already there")
        return
    output.mkdir(parents=True, exist_ok=True)
    if file.exists():
        verify(archive, file)
    else:
        part = Path(f"{file}.part")
        download(archive, part, url=f"{base_url.rstrip('/')}/{archive.path}")
        verify(archive, part)
        part.rename(file)
    unpack(archive, file, output)
    print(f"{folder} is ready; {file} is no longer needed")


def download(archive: Archive, part: Path, *, url: str) -> None:
    """Append to `part` until it has the archive's size; where that fails, `part` stays."""
    part.touch()
    while (start := part.stat().st_size) < archive.size:
        require_space(part.parent, archive.size - start)
        trouble: Exception = ConnectionError("the server closed the connection")
        try:
            receive(archive, part, url=url)
        except NETWORK_TROUBLE as error:
            trouble = error
        # A connection that broke after some bytes is worth another one; one without any is not.
        if (now := part.stat().st_size) <= start:
            raise InputError(
                f"{url} cannot be downloaded ({trouble}); {now:,} of {archive.size:,} bytes are in "
                f"{part}: run this again with a network to go on, or bring {archive.name} to "
                f"{part.parent} from elsewhere."
            )


def receive(archive: Archive, part: Path, *, url: str) -> None:
    """Add to `part` what one connection brings, which may be less than all."""
    start = part.stat().st_size
    request = urllib.request.Request(url, headers={"Range": f"bytes={start}-"})
    with urllib.request.urlopen(request, timeout=TIMEOUT) as response, part.open("r+b") as file:
        first, total = offer(response)
        if total != archive.size or first not in (0, start):
            raise InputError(
                f"{url} offers {total:,} bytes from {first:,} on, expected {archive.size:,} from "
                f"{start:,} on: it is not COCO's file; is there a proxy or another --base-url?"
            )
        file.seek(first)
        file.truncate()
        with progress(archive.name, done=first, total=total) as bar:
            while chunk := response.read(CHUNK):
                file.write(chunk)
                bar.update(len(chunk))


def offer(response: http.client.HTTPResponse) -> tuple[int, int]:
    """First byte of the answer and size of the whole file (-1: unknown)."""
    span = re.fullmatch(r"bytes (\d+)-\d+/(\d+)", response.headers.get("Content-Range", ""))
    if span:
        return int(span[1]), int(span[2])
    return 0, int(response.headers.get("Content-Length", -1))


def verify(archive: Archive, file: Path) -> None:
    """InputError unless size and MD5 sum are COCO's."""
    digest = hashlib.md5(usedforsecurity=False)
    size = file.stat().st_size
    with file.open("rb") as stream, progress(f"{file.name}: MD5", done=0, total=size) as bar:
        while chunk := stream.read(CHUNK):
            digest.update(chunk)
            bar.update(len(chunk))
    if (size, digest.hexdigest()) != (archive.size, archive.md5):
        raise InputError(
            f"{file} has {size:,} bytes and MD5 sum {digest.hexdigest()}, expected "
            f"{archive.size:,} and {archive.md5}: remove it and run this again."
        )


def unpack(archive: Archive, file: Path, output: Path) -> None:
    """Unpack beside the final place, then move, so that the folder appears whole."""
    draft = output / f"{archive.folder}.partial"
    shutil.rmtree(draft, ignore_errors=True)
    try:
        with zipfile.ZipFile(file) as content:
            members = content.infolist()
            require_inside([member.filename for member in members], archive.folder, file)
            require_space(output, sum(member.file_size for member in members))
            for member in tqdm(members, desc=f"{file.name}: unpack", disable=None):
                content.extract(member, draft)
        require_complete(draft / archive.folder, archive)
        (draft / archive.folder).rename(output / archive.folder)
    except zipfile.BadZipFile as error:
        raise InputError(f"{file} is damaged ({error}): remove it and run this again.") from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def require_inside(names: list[str], folder: str, file: Path) -> None:
    """InputError if a member of the zip would land outside of `folder`."""
    for name in names:
        parts = PurePosixPath(name).parts
        if not parts or parts[0] != folder or ".." in parts or "\\" in name:
            raise InputError(f"{file} has a member {name!r}, expected only members of {folder}/.")


def require_complete(folder: Path, archive: Archive) -> None:
    """InputError unless the folder has as many files as COCO's."""
    found = sum(1 for _ in folder.glob(archive.pattern))
    if found != archive.count:
        raise InputError(
            f"{folder} has {found:,} files {archive.pattern}, expected {archive.count:,}: "
            "remove the folder and run this again."
        )


def require_space(folder: Path, needed: int) -> None:
    """InputError if the disk has not `needed` bytes."""
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise InputError(
            f"{folder} has {free:,} bytes free, {needed:,} more are needed: make room or choose "
            "another --output."
        )


def progress(name: str, *, done: int, total: int) -> tqdm[NoReturn]:
    """A bar in bytes on a terminal, nothing elsewhere."""
    return tqdm(initial=done, total=total, desc=name, unit="B", unit_scale=True, disable=None)


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 0: all that was asked for is there."""
    defaults = argparse.ArgumentDefaultsHelpFormatter
    parser = argparse.ArgumentParser(description="Bring COCO 2017.", formatter_class=defaults)
    add = parser.add_argument
    add("--output", type=Path, default="data/coco", help="folder; about 42 GB for all")
    add("--only", nargs="+", choices=ARCHIVES, default=list(ARCHIVES), help="parts to bring")
    add("--base-url", default=BASE_URL, help="a mirror with the same paths")
    options = parser.parse_args(arguments)
    if not options.base_url.startswith(("http://", "https://")):
        raise InputError(f"--base-url is {options.base_url!r}, expected http://... or https://...")
    try:
        for name in options.only:
            bring(ARCHIVES[name], options.output, base_url=options.base_url)
    except OSError as error:
        raise InputError(f"{options.output} cannot be used: {error}.") from error
    return 0


if __name__ == "__main__":
    with exit_codes():
        sys.exit(main())
