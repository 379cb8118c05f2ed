"""Own pieces, from outside the package: the files and keys that the guide shows, as they stand."""

import json
import re
from collections.abc import Sequence
from pathlib import Path

import pytest
import yaml
from conftest import HOME

from detector.cli.train import train
from detector.config import load, parse

GUIDE = (HOME / "docs" / "guide.md").read_text()
FILE_AND_KEYS = re.compile(r"```python\n# (\w+\.py)[^\n]*\n(.*?)```.*?```yaml\n(.*?)```", re.S)
EXAMPLES = {name: (code, keys) for name, code, keys in FILE_AND_KEYS.findall(GUIDE)}
CHANGED = {
    "my_loss.py": "loss.classification.slope=3",
    "my_matching.py": "matching.share=0.25",
    "my_sampler.py": "loss.classification.sampling.above=1e-7",
}


@pytest.mark.parametrize("name", CHANGED)
def test_an_own_piece_trains_and_its_key_changes_the_loss(
    name: str, tiny: Sequence[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first loss is that of the untrained network, and differs by the key alone."""
    monkeypatch.syspath_prepend(tmp_path)
    code, keys = EXAMPLES[name]
    (tmp_path / name).write_text(code)
    file = tmp_path / "mine.yaml"
    file.write_text(
        yaml.safe_dump({"base": [str(HOME / "configs/digits.yaml")], **yaml.safe_load(keys)})
    )

    def first_loss(folder: str, *changes: str) -> float:
        config = load(file, [*tiny, "schedule.steps=1", *changes])
        run = tmp_path / folder
        assert train(config, run, resume=False, command=[]) == 0
        assert parse((run / "config.yaml").read_text(), "written") == config
        return json.loads((run / "metrics.jsonl").read_text().splitlines()[0])[
            "loss/classification"
        ]

    assert first_loss("shown") != first_loss("changed", CHANGED[name])
