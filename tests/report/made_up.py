"""A tiny ablation's folder whose numbers a person can redo, and a reader of the page's tables."""

import json
from collections.abc import Mapping
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from detector.report.folder import read_folder
from detector.report.page import write_ablation_page

HOSTILE = '<script>alert(1)</script> & "why"?'
VOID = {"meta", "br", "wbr", "link", "img", "input", "hr", "source"}
SEEDS = (0, 1, 2)
VALUES: dict[str, dict[str, float | None]] = {
    "focal": {"0": 0.350, "1": 0.360, "2": 0.370},
    "plain_ce": {"0": 0.340, "1": 0.352, "2": 0.361},
    "ignored": {"0": 0.001, "1": None, "2": 0.003},
}


def curve(hardest: float) -> dict[str, Any]:
    """A share of the loss that bends at half of the anchors."""
    return {
        "anchors": [0.0, 0.5, 1.0],
        "loss": [0.0, 0.1, 1.0],
        "total": 12.0,
        "hardest": {"0.001": hardest, "0.01": 2 * hardest, "0.1": 4 * hardest},
    }


def reliability(shift: float, **fitted: float) -> dict[str, Any]:
    """Two full bins of twenty: 30 detections at 0.2, and 10 at 0.8 that are right less often."""
    bins: list[dict[str, Any]] = [{"count": 0, "score": None, "precision": None}] * 20
    bins[4] = {"count": 30, "score": 0.2, "precision": 0.2}
    bins[16] = {"count": 10, "score": 0.8, "precision": 0.8 - shift}
    return {"d_ece": shift / 4, "detections": 40, "bins": bins, **fitted}


def diagnostics(seed: int, *, background: bool) -> dict[str, Any]:
    """What a run's diagnostics.json may hold; a hundredth of each figure is its seed."""
    both = {"foreground": curve(0.01), "background": curve(0.1) if background else None}
    return {
        "checkpoint": "last",
        "images": 6,
        "AP": 0.3,
        "AP50": 0.6,
        "AP75": 0.25,
        "AR100": 0.4 + seed / 100,
        "lrp": {"error": 0.7, "localisation": 0.2, "false_positive": 0.3, "false_negative": 0.4,
                "score": None},
        "froc": {
            "per_image": 1000,
            "false_positives": [0.1, 1.0, 10.0],
            "recall": [0.2 + seed / 100, 0.6, 0.9 if background else None],
            "at_recall": {"0.5": 0.75 + seed, "0.8": 5.25 if background or seed else None},
        },
        "anchors": {"foreground": 100, "background": 9900},
        "loss_distribution": {"own": both, "gamma=0": both, "gamma=2": both},
        "score_histogram": {
            "edges": [k / 50 for k in range(51)],
            "foreground": [1 + seed] * 50,
            "background": [200 - 4 * k for k in range(50)],
        },
        "calibration": {
            "iou": 0.5,
            "bins_edges": [k / 20 for k in range(21)],
            "before": reliability(0.4),
            "temperature": reliability(0.2, temperature=1.5 + seed / 100),
            "platt": reliability(0.1, slope=0.75, intercept=-0.25),
        },
        "errors": {
            "AP50": 0.6,
            "classification": 0.02 + seed / 100,
            "localisation": 0.11,
            "both": 0.0,
            "duplicate": 0.005,
            "background": 0.04,
            "missed": 0.2,
        },
        "classes": [
            {"name": "zero", "training_boxes": 400, "AP": 0.4 + seed / 100},
            {"name": "four", "training_boxes": 60, "AP": 0.3},
            {"name": "<nine>", "training_boxes": 25, "AP": 0.2},
            {"name": "absent", "training_boxes": 3, "AP": -1.0},
        ],
    }  # fmt: skip


def records(value: float | None) -> list[dict[str, Any]]:
    """Two epochs; a failed run (None) ends in the first."""
    shares = {
        f"{quantity}_share/{group}": share
        for quantity, share_of in (("loss", 1.0), ("gradient", 0.5))
        for group, share in (
            ("positives", 0.25 * share_of),
            ("hard_negatives", 0.5 * share_of),
            ("easy_negatives", 1 - 0.75 * share_of),
        )
    }
    lines: list[dict[str, Any]] = [
        {"step": 5, "epoch": 0.5, "loss/total": 2.0, **shares},
        {"step": 10, "epoch": 1.0, "validation/AP": (value or 0.0) / 2},
    ]
    if value is not None:
        lines += [{"step": 15, "epoch": 1.5, "loss/total": None, **shares},
                  {"step": 20, "epoch": 2.0, "validation/AP": value}]  # fmt: skip
    return lines


def results() -> dict[str, Any]:
    """results.json; means and their intervals are made up too, with digits of their own.

    Without contrasts, as an older file, which compares each with focal.
    """
    common = {"standard_deviation": 0.0101, "interval": [0.3352, 0.3848], "n": 3}
    published = {"value": 0.302, "source": "Lin et al. 2017, table 1a"}
    changes = {"loss.classification.gamma": [2.0, 0.0], "loss.classification.alpha": [0.25, None]}
    rows = [
        ("focal", HOSTILE, None, {}, 0.36),
        ("plain_ce", "no focus", published, changes, 0.351),
        ("ignored", "", None, changes, 0.002),
    ]
    return {
        "ablation": "a.yaml",
        "metric": "AP",
        "baseline": "focal",
        "seeds": list(SEEDS),
        "variants": [
            {"name": name, "question": question, "published": source, "changes": changed,
             "values": VALUES[name], **common, "mean": mean,
             "confounders": {}, "tuning": None}
            for name, question, source, changed, mean in rows
        ],
        "failed_trials": [],
        "seconds": {f"{name}, seed {seed}": 600.0 for name in VALUES for seed in SEEDS},
        "runner": {"workers": 2, "wall": 1.0, "busy": 1.0, "idle": 0.0, "overhead": None},
    }  # fmt: skip


def declared_results() -> dict[str, Any]:
    """The same with a design: two contrasts and a margin, one contrast more, and an amendment.

    Seed 1 of `ignored` diverged, so that it counts as 0.
    """
    content = results()
    for entry in content["variants"]:
        entry["figures"] = {"AR_100": {"0": 0.5, "1": 0.25, "2": 0.75}}
    content["variants"][2] |= {"diverged": [1]}
    return content | {
        "margin": 0.02,
        "contrasts": [
            {"name": "plain_ce - ignored", "coefficients": {"plain_ce": 1.0, "ignored": -1.0},
             "planned": False},
            {"name": "plain_ce - focal", "coefficients": {"plain_ce": 1.0, "focal": -1.0}},
            {"name": "ignored - focal", "coefficients": {"ignored": 1.0, "focal": -1.0}},
        ],
        "amendments": [
            {"date": "2026-11-27T10:00:00+00:00", "reason": "a reviewer <asked>",
             "before": {"seeds": [0, 1], "margin": None},
             "after": {"seeds": [0, 1, 2], "margin": 0.02}, "results_seen": True},
        ],
    }  # fmt: skip


def tuned_results() -> dict[str, Any]:
    """The same, where two variants were tuned, one to other values than its own."""
    content = results()
    focal, plain, _ = content["variants"]
    tuning = {
        "keys": {"optimizer.lr": [0.01, 0.02], "loss.weight": [1, 2]},
        "values": {"lr=0.01": 0.25, "lr=0.02": None},
        "chosen": {"optimizer.lr": 0.02, "loss.weight": 1},
        "at_edge": ["optimizer.lr"],
        "lead": None,
        "tuned_variant": None,
    }
    focal["tuning"] = tuning
    plain["tuning"] = tuning | {"lead": 0.0123, "tuned_variant": "plain_ce_tuned"}
    plain["confounders"] = {"clipped_share": 0.45, "classification_over_box": 2.5,
                            "divisor": 358.66, "gradient_norm": None,
                            "score_threshold": 0.05}  # fmt: skip
    content["variants"].append(plain | {"name": "plain_ce_tuned", "mean": 0.358, "tuning": None,
                                      "interval": [0.3501, 0.3659], "confounders": {}})  # fmt: skip
    content["runner"]["overhead"] = 0.0123
    return content


def folder(path: Path) -> Path:
    """All of it, as tools/ablate.py leaves it; `ignored, seed 1` failed, and one is undiagnosed."""
    path.mkdir()
    write(path / "results.json", results())
    write(
        path / "ablation.json",
        {"ablation": "a.yaml", "command": ["python", "x"], "config": "configs/digits.yaml"},
    )
    for name, values in VALUES.items():
        for seed, value in values.items():
            run = path / "runs" / name / f"seed{seed}"
            run.mkdir(parents=True)
            lines = "".join(json.dumps(record) + "\n" for record in records(value))
            (run / "metrics.jsonl").write_text(lines + '{"step": 21, "ep')
            write(run / "environment.json", environment(name, seed))
            run.with_suffix(".log").write_text(f"first\nstep 1\rstep 2\ndiverged: {name}\n")
            if value is not None and (name, seed) != ("plain_ce", "2"):
                (run / "diagnosis" / "last").mkdir(parents=True)
                content = diagnostics(int(seed), background=name != "ignored")
                write(run / "diagnosis" / "last" / "diagnostics.json", content)
    return path


def environment(name: str, seed: str) -> dict[str, Any]:
    """Of a run."""
    words = [
        "tools/train.py",
        "--config",
        "c.yaml",
        "--set",
        f"train.seed={seed}",
        f"a=[{name}, 1]",
    ]
    return {"command": words, "started": f"2026-11-2{seed}T10:00:00+00:00", "git": "abc123+",
            "torch": "2.14.1", "gpus": [], "threads": 1 if seed == "0" else 2}  # fmt: skip


def write(path: Path, content: Mapping[str, Any]) -> None:
    """As JSON."""
    path.write_text(json.dumps(content))


def ablation_page(path: Path, **words: str) -> str:
    """The text of an ablation's page, written anew."""
    return write_ablation_page(read_folder(path), **words).read_text(encoding="utf-8")


class Reader(HTMLParser):
    """The page's elements, balanced or an AssertionError, and its tables as text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.tables: list[list[list[str]]] = []
        self.feed(page)
        assert not self.open, f"left open: {self.open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in {"td", "th"}:
            self.tables[-1][-1].append("")
        elif tag == "small":
            self.tables[-1][-1][-1] += "|"

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open[-1] == tag, f"</{tag}> closes {self.open[-3:]}"
        self.open.pop()

    def handle_data(self, data: str) -> None:
        self.text.append(data)
        if "td" in self.open or "th" in self.open:
            self.tables[-1][-1][-1] += data.strip("\n") if data.isspace() else data

    def table(self, title: str) -> list[list[str]]:
        """The rows, the head among them, of the table whose caption holds `title`."""
        (index,) = (k for k, caption in enumerate(self.captions()) if title in caption)
        return [[cell.strip() for cell in row] for row in self.tables[index]]

    def captions(self) -> list[str]:
        """Of the tables, in their order."""
        text = "".join(self.text)
        return [f"Table {n}. " + text.split(f"Table {n}. ", 1)[1].split("\n", 1)[0]
                for n in range(1, len(self.tables) + 1)]  # fmt: skip
