"""docs/losses.html: its JavaScript computes the detector's losses, its YAML is a config's.

The formulas run under node, where there is one; the page itself compares them with its checks
wherever it is opened.
"""

import json
import random
import re
import shutil
import subprocess
from itertools import product
from typing import Any

import lesson_page
import pytest
from conftest import HOME
from lesson_page import Image, render
from plot_losses import AnchorCounts, interactive, untrained

from detector.build import class_code
from detector.config import parse
from detector.errors import InputError

PAGE = HOME / "docs" / "losses.html"
FORMULAS = HOME / "tools" / "losses_formulas.js"
NODE = shutil.which("node")
needs_node = pytest.mark.skipif(NODE is None, reason="node is not on the PATH")


def embedded() -> Any:
    """The JSON in the page."""
    (text,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', read())
    return json.loads(text)


def read() -> str:
    return PAGE.read_text(encoding="utf-8")


def javascript(expression: str, value: object) -> Any:
    """What an expression of the page's formulas gives, with `value` in it."""
    assert NODE is not None
    code = f"const value = {json.dumps(value)};\nconsole.log(JSON.stringify({expression}));"
    done = subprocess.run(
        [NODE, "-"], input=f"{FORMULAS.read_text()}\n{code}", capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_the_page_is_that_of_its_template_and_the_code() -> None:
    """Whole, but for the losses, whose last digit another computer may round otherwise."""
    data = embedded()
    page = render([Image(**image) for image in data["images"]], data["anchorsPerObject"])
    losses = re.compile(r'"losses":\[[^]]*\]')
    assert losses.sub("", page) == losses.sub("", read()), "run tools/plot_losses.py again"
    for old, new in zip(data["checks"], lesson_page.checks(), strict=True):
        assert old["losses"] == pytest.approx(new["losses"], rel=1e-6)


def test_the_page_needs_nothing_else() -> None:
    assert len(read().encode()) < 150_000
    assert not re.findall(r'(?:src|href)="(?!losses\.md")', read())
    assert "http" not in read()


def test_every_element_that_the_script_names_is_in_the_page() -> None:
    page = read()
    ids, script = set(re.findall(r'id="([\w-]+)"', page)), page.partition("<script>")[2]
    assert set(re.findall(r'\$\("([\w-]+)"\)', script)) <= ids
    (table,) = re.findall(r"const SLIDERS = \{(.*?)\n\};", script, re.DOTALL)
    sliders = re.findall(r"(\w+): \{", table)
    assert len(sliders) == 10 and {f"{key}-value" for key in sliders} | set(sliders) <= ids


@needs_node
def test_the_script_is_javascript() -> None:
    script = read().partition("<script>")[2].partition("</script>")[0]
    assert javascript("typeof new Function(value)", script) == "function"


@needs_node
@pytest.mark.parametrize(
    ("address", "replaced"),
    [
        ("file:///home/me/anchorlab/docs/losses.html#gamma=2", []),
        ("file:///home/me/Downloads/losses.html", ["docs/losses.md"]),
        ("https://example.org/", ["docs/losses.md"]),
    ],
)
def test_the_lesson_is_a_link_only_where_it_lies_beside(address: str, replaced: list[str]) -> None:
    (function,) = re.findall(r"function showLesson\(\) \{.*?\n\}", read(), re.DOTALL)
    stubs = """const location = value, replaced = [], replaceWith = (text) => replaced.push(text);
        const $ = () => ({ textContent: "docs/losses.md", replaceWith });"""
    call = f"(() => {{ {stubs} {function} showLesson(); return replaced; }})()"
    assert javascript(call, address) == replaced


def test_checks_by_hand() -> None:
    """Sigmoid, negatives, K = 2, π = 0.1: background 2 · -log 0.9; a class -log 0.1 - log 0.9."""
    state: dict[str, Any] = {
        "activation": "sigmoid", "background": "negatives", "prior": 0.1, "gamma": 0.0,
        "alpha": None, "classes": 2,
    }  # fmt: skip
    one = 2.3025851 + 0.1053605
    assert lesson_page.losses(state, None) == pytest.approx([one, one, 0.2107210])
    softmax = state | {"activation": "softmax", "background": "class", "gamma": 2.0, "alpha": 0.25}
    # p of background 0.9 and of each class 0.05: 0.75 · 0.01 · 0.1053605, 0.25 · 0.9025 · 2.9957323
    assert lesson_page.losses(softmax, None) == pytest.approx([0.6759121] * 2 + [0.0007902037])
    ignored = state | {"background": "ignored", "prior": None}
    assert lesson_page.losses(ignored, [0.0, 0.0]) == pytest.approx([1.3862944] * 2 + [0])


def test_the_checks_cover_every_loss_that_is_not_refused() -> None:
    states = [check["state"] for check in embedded()["checks"]]
    pairs = {(state["activation"], state["background"]) for state in states}
    assert len(pairs) == 5 and ("softmax", "negatives") not in pairs
    for key, values in lesson_page.CHECKED.items():
        assert {state[key] for state in states} >= set(values)


@needs_node
def test_the_pages_formulas_are_the_detectors() -> None:
    """At other logits than those in the page."""
    draw, checks = random.Random(1), embedded()["checks"]
    for check in checks:
        logits = [draw.gauss(0, 6) for _ in range(lesson_page.code_of(check["state"]).channels)]
        check |= {"logits": logits, "losses": lesson_page.losses(check["state"], logits)}
    assert javascript("distance(value)", checks) < 1e-5
    assert javascript("distance(value)", embedded()["checks"]) < 1e-5


@needs_node
def test_a_wrong_formula_is_noticed() -> None:
    """By the comparison that the page makes when it loads."""
    checks = embedded()["checks"]
    checks[3]["losses"][-1] = checks[3]["losses"][-1] * 1.001 + 0.001
    assert javascript("distance(value)", checks) > 1e-4


@needs_node
def test_the_sums_are_those_of_the_lesson() -> None:
    """Focal with π = 0.01, in the table of losses.md and on the page."""
    counts = AnchorCounts(1, 1, anchors=3010, classes=10, foreground=10, background=3000)
    expected = untrained(counts)[3]
    state = embedded()["presets"][2] | {"classes": 10, "anchors": 3010, "foreground": 10}
    groups = javascript("groups(value)", state)
    assert groups["foreground"]["sum"] == pytest.approx(expected.foreground)
    assert groups["background"]["sum"] == pytest.approx(expected.background)
    assert (groups["background"]["anchors"], len(groups["background"]["terms"])) == (3000, 10)


@needs_node
def test_its_yaml_is_what_the_config_takes_or_refuses_with_its_sentence() -> None:
    """Every combination, parsed as a config, is refused where the page refuses it."""
    states = [
        {"activation": a, "background": b, "prior": p, "gamma": g, "alpha": w}
        for a, b, p, g, w in product(
            ("sigmoid", "softmax"), ("ignored", "class", "negatives"),
            (None, 0.0001, 0.013, 0.5), (0, 0.5, 5), (None, 0, 0.25, 1),
        )
    ]  # fmt: skip
    texts = javascript("value.map((state) => [yaml(state), refusalKey(state)])", states)
    refusals = embedded()["refusals"]
    for state, (text, key) in zip(states, texts, strict=True):
        config = parse(text, "losses.html")
        loss = config.loss.classification
        assert {name: getattr(loss, name) for name in state} == state
        try:
            class_code(config, num_classes=3)
        except InputError as error:
            said = refusals[key].replace("PRIOR", str(state["prior"]))
            assert str(error) == f"loss.classification: {said}"
        else:
            assert key not in refusals
    assert len(refusals) == 4


def test_its_first_image_is_that_of_the_lesson() -> None:
    """Three objects on average learned by 22 anchors: 7.3 each."""
    small = AnchorCounts(128, 128, 3069, classes=10, objects=3.0, foreground=22.0)
    page = interactive(small, AnchorCounts(800, 1344, 201600))
    assert '"anchors":201600,"objects":7,"classes":80' in page
    assert '"anchors":3069,"objects":3,"classes":10' in page
    assert '"anchorsPerObject":7.3' in page
