"""Runs of one ablation that were made in several folders, on several machines, taken into one."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

from detector.cli.ablation_runs import run_folders
from detector.engine.run import ENVIRONMENT, last_state, resolved_config, resumptions
from detector.errors import InputError
from detector.files import locked, new_directory, read_object, write_json
from detector.lab.design import FIXED, MARK, Record, first_difference
from detector.lab.plan import Plan
from detector.lab.sweep import STATE, read_finished

CODE = ("detector", "git", "torch", "torchvision", "processes")  # keys of these files


@dataclass(frozen=True)
class Origin:
    """What must be the same in all runs of an ablation."""

    folder: Path
    code: Mapping[str, Any]  # versions, and whether it was on a GPU, where it rounds otherwise
    files: Mapping[str, Any]  # keys of data that say which images
    digests: Mapping[str, str] | None  # of these images and boxes; None where none were saved, as
    # of a run that diverged before its first checkpoint

    @classmethod
    def of(cls, folder: Path) -> Origin:
        """Of a run's folder; InputError where its own code is not one that is known."""
        files = resolved_config(folder).data.model_dump(
            mode="json", include={"train", "val", "tuning", "folds"}
        )
        state = last_state(folder)
        return cls(folder, _code_of(folder), files, state and state.get("data"))

    def check(self, other: Origin) -> None:
        """InputError where another run is of other code, or of other data in the same files."""
        if self.code != other.code:
            raise InputError(
                f"{other.folder}: it was trained by other code than {self.folder}: "
                f"{first_difference(self.code, other.code)}; train it again by the same."
            )
        known = self.digests is not None and other.digests is not None
        if known and self.files == other.files and self.digests != other.digests:
            raise InputError(
                f"{other.folder}: the images or boxes of its data were others than those of "
                f"{self.folder}, in files of the same names; train it again on the same."
            )


def _code_of(run: Path) -> dict[str, Any]:
    """That of its first process; InputError where other code resumed it, or nobody knows it."""
    files = [run / ENVIRONMENT, *resumptions(run)]
    environments = [read_object(file, *CODE, "gpus") for file in files]
    code, *resumed = (
        {key: environment[key] for key in CODE} | {"GPU": bool(environment["gpus"])}
        for environment in environments
    )
    for other in resumed:
        if other != code:
            raise InputError(
                f"{run}: it was resumed by other code than it began with: "
                f"{first_difference(code, other)}; train it again by one."
            )
    if str(code["git"]).endswith("+"):
        raise InputError(
            f"{run}: it was trained by {code['git']}, a checkout with changes, which may be others "
            "on each machine; commit them, and train it again."
        )
    return code


def merge(
    plan: Plan, record: Record, sources: Sequence[Path], output: Path, say: Callable[[str], None]
) -> Record:
    """Take the runs of `sources` that ended into `output`; what ablation.json holds from now on.

    A run that is there already is not copied again. Raises InputError, before anything is copied,
    where a folder is of another ablation or design, or a run of other code or data, and where two
    folders hold different runs of one name.
    """
    folders = [folder.resolve() for folder in (output, *sources)]
    with ExitStack() as stack:
        for index, source in enumerate(sources, start=1):
            if folders[index] in folders[:index]:  # a process could lock it twice
                raise InputError(f"--merge {source}: it is named twice, or is the --output.")
            if not (source / MARK).is_file():
                raise InputError(f"--merge {source}: it is no folder of detector ablate.")
            stack.enter_context(locked(source))
        record = _joined(plan, record, sources)
        runs, finished = _to_copy(sources, output)
        for path, folder in runs.items():
            _copy(folder, output / path)
    write_json(output / STATE, finished)
    say(f"took in {len(runs)} runs of {len(sources)} folders")
    return record


def _joined(plan: Plan, record: Record, sources: Sequence[Path]) -> Record:
    """With the amendments of all; planned are the contrasts that were so everywhere."""
    planned, amendments = list((record.design or {}).get("contrasts", ())), [*record.amendments]
    for source in sources:
        theirs = Record.read(source)
        assert theirs is not None
        if theirs.identity != plan.identity():
            raise InputError(
                f"--merge {source}: it holds other runs, of {theirs.ablation}: "
                f"{first_difference(theirs.identity, plan.identity())}."
            )
        there, here = ({key: of.last.get(key) for key in FIXED} for of in (theirs, record))
        if there != here:
            raise InputError(
                f"--merge {source}: it is of another design: {first_difference(there, here)}; "
                "merge with its own, and change the design of the whole afterwards (--amend)."
            )
        lost = {*theirs.last.get("contrasts", ())} - {contrast.name for contrast in plan.contrasts}
        if lost:
            raise InputError(
                f"--merge {source}: it declared {min(lost)} as well, and p would be corrected for "
                "too few contrasts; merge with its own, and leave it out afterwards (--amend)."
            )
        planned = [name for name in planned if name in (theirs.design or {}).get("contrasts", ())]
        amendments += [one for one in theirs.amendments if one not in amendments]
    design = {**(record.design or {}), "contrasts": planned}
    return replace(record, design=design, amendments=tuple(amendments))


def _to_copy(sources: Sequence[Path], output: Path) -> tuple[dict[Path, Path], dict[str, float]]:
    """Folders of runs by where they go, and seconds by name of all that are finished then."""
    origins = [Origin.of(run.folder) for run in _ended(output)]
    places = {run.path: run for run in _ended(output)}
    copied, finished = {}, read_finished(output / STATE)
    for run in chain.from_iterable(map(_ended, sources)):
        finished |= {} if run.seconds is None else {run.name: run.seconds}
        before = places.setdefault(run.path, run)
        if before is run:
            if (output / run.path).exists():
                raise InputError(
                    f"{output / run.path}: it is not finished, and {run.folder} is; delete the "
                    "first to take in the other, or go on without --merge."
                )
            origin = Origin.of(run.folder)
            for other in origins:
                other.check(origin)
            origins.append(origin)
            copied[run.path] = run.folder
        elif not _is_same(before, run):
            raise InputError(
                f"{run.folder}: {before.folder} is another run of the same variant and seed; "
                "delete one of them, or leave out its folder."
            )
    return copied, finished


@dataclass(frozen=True)
class Ended:
    """A run that is finished or diverged."""

    folder: Path
    path: Path  # of the folder, in that of the ablation
    name: str  # as of Run.name
    seconds: float | None  # None: it diverged


def _ended(ablation: Path) -> Iterator[Ended]:
    finished = read_finished(ablation / STATE)
    for folder in run_folders(ablation):
        path = folder.relative_to(ablation)
        variant = path.parent.as_posix().removeprefix("runs/")
        name = f"{variant}, seed {path.name.removeprefix('seed')}"
        if name in finished or (folder / "failure").is_dir():
            yield Ended(folder, path, name, finished.get(name))


def _is_same(one: Ended, other: Ended) -> bool:
    """Whether two are one training, of one end: it notes its command, start and machine."""
    files = [run.folder / ENVIRONMENT for run in (one, other)]
    start = all(file.is_file() for file in files) and files[0].read_bytes() == files[1].read_bytes()
    return start and (one.seconds is None) == (other.seconds is None)


def _copy(folder: Path, to: Path) -> None:
    """A run and its log; checkpoints, which are never written to in place, share their bytes."""
    log = folder.with_name(f"{folder.name}.log")
    with new_directory(to) as draft:
        hidden = shutil.ignore_patterns(".*")
        shutil.copytree(folder, draft, copy_function=_link, ignore=hidden, dirs_exist_ok=True)
    if log.is_file():
        shutil.copy2(log, to.with_name(log.name))


def _link(source: str, to: str) -> None:
    if source.endswith(".pt"):
        with suppress(OSError):  # of another file system
            os.link(source, to)
            return
    shutil.copy2(source, to)
