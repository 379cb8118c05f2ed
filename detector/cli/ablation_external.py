"""Results of other detectors as variants of an ablation: measured on its validation set."""

from __future__ import annotations

import json
from hashlib import sha256
from pathlib import Path

from detector import build
from detector.engine.run import CONFIG
from detector.errors import InputError
from detector.evaluation.coco import evaluate
from detector.evaluation.coco_files import index_ground_truth, load_detections
from detector.evaluation.predict import coco_json
from detector.files import finite, new_directory, read_object, write_json, write_text
from detector.lab.plan import Plan
from detector.lab.variants import of_seed
from detector.trained import own_metrics_of

SOURCE = "source.json"


def external_run(output: Path, name: str, seed: int) -> Path:
    """The folder of what was measured of an external variant, among those of the runs."""
    return output / "runs" / name / f"seed{seed}"


def read_sources(plan: Plan) -> dict[tuple[str, int], dict[str, str]]:
    """Path and digest of each file, by name and seed; InputError where one cannot be read."""
    sources = {}
    for external in plan.external:
        for seed, file in external.files.items():
            try:
                digest = sha256(file.read_bytes()).hexdigest()
            except OSError as error:
                raise InputError(
                    f"{plan.file}: external.{external.name}: {file.absolute()} cannot be read "
                    f"({error.strerror}); name a COCO result file for seed {seed}."
                ) from None
            sources[external.name, seed] = {"file": str(file), "sha256": digest}
    return sources


def measure_external(plan: Plan, output: Path) -> None:
    """Measure what is not measured yet, into folders that look like those of finished runs.

    Raises InputError for a file that is missing, no COCO result file or of other images or classes,
    and for one that changed since it was measured.
    """
    for (name, seed), source in read_sources(plan).items():
        file, folder = Path(source["file"]), external_run(output, name, seed)
        if not folder.exists():
            _measure(plan, seed, file, source, folder)
        elif read_object(folder / SOURCE, "sha256")["sha256"] != source["sha256"]:
            raise InputError(
                f"{file}: it changed since it was measured; delete {folder} to measure it again, "
                "or restore the file."
            )


def _measure(plan: Plan, seed: int, file: Path, source: dict[str, str], folder: Path) -> None:
    config = build.load_config(plan.config, (*of_seed(plan.shared, seed), f"train.seed={seed}"))
    index = build.data_index(config, "val")
    truth = index_ground_truth(index)
    rows = load_detections(file, truth)
    ids, own = index.image_ids.tolist(), own_metrics_of(config)
    result = evaluate(rows, truth, image_ids=ids, engine=config.evaluation.engine, own=own)
    record = {f"validation/{name}": finite(value) for name, value in result.figures.items()}
    with new_directory(folder) as draft:
        write_text(draft / CONFIG, config.to_yaml())
        write_text(draft / "metrics.jsonl", json.dumps({"step": 0, "epoch": 0.0, **record}) + "\n")
        write_json(draft / SOURCE, source)
        (draft / "diagnosis" / "last").mkdir(parents=True)
        write_json(draft / "diagnosis" / "last" / "detections.json", coco_json(rows))
