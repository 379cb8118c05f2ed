"""ablation.json: whose folder it is, the design before its first result, and what changed since."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from detector.errors import InputError
from detector.files import make_directory, occupied, read_object, write_json
from detector.lab.plan import Plan
from detector.lab.results import Amendment, read_results
from detector.lab.sweep import STATE, read_finished

MARK = "ablation.json"
FIXED = ("seeds", "metric", "margin")  # of a design: what only an amendment changes


@dataclass(frozen=True)
class Record:
    """The content of ablation.json."""

    ablation: str  # the file that describes it
    command: list[str]
    config: str  # the file that all variants change
    identity: Mapping[str, Any]  # as of Plan.identity
    design: Mapping[str, Any] | None  # as of `design_of`, before the first result; None: not known
    amendments: tuple[Amendment, ...] = ()

    @classmethod
    def of(cls, plan: Plan, output: Path) -> Record:
        """Of a new folder."""
        command = ["detector", "ablate", "--config", str(plan.file), "--output", str(output)]
        command += ["--set", *plan.overrides] if plan.overrides else []
        return cls(str(plan.file), command, str(plan.config), plan.identity(), design_of(plan))

    @classmethod
    def read(cls, folder: Path) -> Record | None:
        """Of a folder; None where it holds nothing, InputError where it holds something else."""
        file = folder / MARK
        if not file.exists():
            if occupied(folder):
                raise InputError(f"{folder}: it holds something else; name another --output.")
            return None
        content = read_object(file, "ablation", "command", "identity")
        return cls(
            content["ablation"],
            content["command"],
            content.get("config", ""),
            content["identity"],
            content.get("design"),  # older versions wrote none
            tuple(Amendment(**one) for one in content.get("amendments", ())),
        )

    def write(self, folder: Path) -> None:
        """Mark the folder as this ablation's."""
        make_directory(folder)
        write_json(folder / MARK, asdict(self))

    @property
    def last(self) -> dict[str, Any]:
        """The design with all amendments."""
        design = dict(self.design or {})
        for amendment in self.amendments:
            design |= amendment.after
        return design

    def planned(self, plan: Plan) -> Plan:
        """The plan, in which contrasts that were not in the first design are marked so."""
        names = (self.design or {}).get("contrasts", ())
        marked = [replace(c, planned=c.name in names) for c in plan.contrasts]
        return replace(plan, contrasts=tuple(marked))


def design_of(plan: Plan) -> dict[str, Any]:
    """What is to be found out, and from how many runs."""
    contrasts = [contrast.name for contrast in plan.contrasts]
    fixed = {"seeds": [*plan.seeds], "metric": plan.metric, "margin": plan.margin}
    return {**fixed, "contrasts": contrasts}


def declared(plan: Plan, output: Path, reason: str | None) -> Record:
    """What ablation.json is to hold from now on; nothing is written.

    Until a run is finished the design may change. Then it may only with a reason, which is kept.
    Raises InputError if the folder is there and not this ablation's, or of another design.
    """
    record = Record.read(output)
    if record is None:
        return Record.of(plan, output)
    if record.identity != plan.identity():
        raise InputError(
            f"{output}: it holds other runs, of {record.ablation}: "
            f"{first_difference(record.identity, plan.identity())}; put it back, and go on "
            f"with {shlex.join(record.command)}, or name another --output."
        )
    if not _has_results(output):
        return replace(record, design=design_of(plan))
    now, before = design_of(plan), record.last
    changed = [key for key in FIXED if key not in before or now[key] != before[key]]
    # more contrasts are marked as not planned; with fewer, p would be corrected for too few
    if not {*before.get("contrasts", ())} <= {*now["contrasts"]}:
        changed.append("contrasts")
    if not changed:
        return record
    if reason is None:
        raise InputError(_refusal(output, changed[0], before, now))
    amendment = Amendment(
        date=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        reason=reason,
        before={key: before.get(key) for key in changed},
        after={key: now[key] for key in changed},
        results_seen=(output / "results.json").exists(),
    )
    return replace(record, amendments=(*record.amendments, amendment))


def _has_results(output: Path) -> bool:
    """Whether a run that is reported is finished or diverged; those of tuning are not reported.

    Where state.json was deleted, results.json still tells.
    """
    finished = read_finished(output / STATE)
    diverged = any(output.glob("runs/*/seed*/failure"))
    reported = any(not name.startswith("tuning/") for name in finished)
    if diverged or reported:
        return True
    file = output / "results.json"
    return file.exists() and any(variant.outcomes for variant in read_results(file).variants)


def _refusal(output: Path, key: str, before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    was = json.dumps(before[key]) if key in before else "not recorded (by an older version)"
    return (
        f"{output}: {key} was {was} when its first run was finished, and now it is "
        f"{json.dumps(now[key])}. What is changed after a look at results makes p-values too "
        "small: with seeds added until a difference shows, three looks find one at .05 in 12 % of "
        'cases without any. Name another --output, or give --amend "REASON", which is recorded '
        "and shown with the results."
    )


def first_difference(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """Between two identities of plans, which hold no key that has its default."""
    there, here = ({k: json.dumps(v) for k, v in keys.items()} for keys in (before, now))
    key, *others = (key for key in {**there, **here} if there.get(key) != here.get(key))
    more = f" (and {len(others)} more)" if others else ""
    default = "the default"
    return f"{key} is {there.get(key, default)} there and {here.get(key, default)} here{more}"
