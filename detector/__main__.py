"""`detector COMMAND …` in a terminal, also as `python -m detector COMMAND …`."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

from detector import __version__
from detector.errors import InputError, exit_codes

Command = Callable[[Sequence[str]], int]

HELP = """usage: detector COMMAND ...

commands (each has its own --help):
  convert    labels of Pascal VOC, YOLO, LabelMe, CSV or COCO's dialects to COCO JSON
  check      what is wrong with a data set, and whether the anchors fit it
  train      train a detector from a YAML config
  evaluate   COCO metrics of a run, or of anybody's COCO result file
  predict    detect objects in images and videos, and draw them
  report     a run on one page: what it learned from, and where it fails
  export     a detector as ONNX or torch.export, with decoding and NMS inside
  ablate     train variants of a config from several seeds, and compare them
  compare    the difference in AP of two runs or result files, with its interval
  diagnose   why a run's AP is what it is

options:
  --help     show this
  --version  show the version
"""


def main() -> int:
    """Run the command that the process was started with; the exit code."""
    with exit_codes():
        return _run(sys.argv[1:])


def _run(words: Sequence[str]) -> int:
    match words:
        case ["-h" | "--help", *_]:
            sys.stdout.write(HELP)
            return 0
        case ["--version", *_]:
            sys.stdout.write(f"detector {__version__}\n")
            return 0
        case [name, *arguments]:
            return _command(name)(arguments)
        case _:
            raise InputError("no command is named; `detector --help` lists them.")


def _command(name: str) -> Command:
    """Only its own module is imported: torch and all that it needs take seconds."""
    match name:
        case "convert":
            from detector.cli.convert import main
        case "check":
            from detector.cli.check import main
        case "train":
            from detector.cli.train import main
        case "evaluate":
            from detector.cli.evaluate import main
        case "predict":
            from detector.cli.predict import main
        case "export":
            from detector.cli.export import main
        case "report":
            from detector.cli.report import main
        case "ablate":
            from detector.cli.ablate import main
        case "compare":
            from detector.cli.compare import main
        case "diagnose":
            from detector.cli.diagnose import main
        case other:
            raise InputError(f"there is no command {other!r}; `detector --help` lists them.")
    return main


if __name__ == "__main__":
    sys.exit(main())
