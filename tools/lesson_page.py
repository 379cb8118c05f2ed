"""docs/losses.html: the page whose sliders move the loss, as it computes by losses_formulas.js."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any, get_args

import torch
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from detector import build
from detector.anchors.class_code import Activation, Background, ClassCode
from detector.loss.assemble import classification_loss
from detector.loss.classification import per_anchor_loss
from detector.loss.focal import FocalSettings
from detector.structures import BACKGROUND

TOOLS = Path(__file__).parent
FRAGMENTS = TOOLS.parent / "configs" / "losses"
KEYS = ("activation", "background", "prior", "gamma", "alpha")
# the text of a button, a fragment, and what differs from it
PRESETS: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("Cross-entropy, no prior", "cross_entropy", {"prior": None}),
    ("Cross-entropy, prior", "cross_entropy", {}),
    ("Focal (RetinaNet)", "focal", {}),
    ("Softmax + background", "background_cross_entropy", {}),
    ("Positives only", "positives_only", {}),
)
CHECKS = 150
CHECKED: dict[str, tuple[Any, ...]] = {
    "prior": (None, 1e-4, 0.001, 0.01, 0.1, 0.5),
    "gamma": (0.0, 0.5, 1.0, 2.0, 5.0),
    "alpha": (None, 0.0, 0.25, 0.5, 0.75, 1.0),
    "classes": (1, 2, 5, 12),
}


@dataclass(frozen=True)
class Image:
    """An image that a button of the page chooses: its mean number of objects is rounded."""

    name: str
    anchors: int
    objects: int
    classes: int


def render(images: list[Image], anchors_per_object: float) -> str:
    """The page. anchors_per_object: foreground anchors that an object has, measured."""
    environment = Environment(
        loader=FileSystemLoader(TOOLS),
        undefined=StrictUndefined,
        autoescape=False,  # noqa: S701  the page's own JSON, CSS and JavaScript
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.get_template("losses.html.j2").render(
        presets=[preset[0] for preset in PRESETS],
        images=images,
        anchors_per_object=anchors_per_object,
        data=json.dumps(
            {
                "presets": [preset(fragment, changes) for _, fragment, changes in PRESETS],
                "images": [vars(image) for image in images],
                "anchorsPerObject": anchors_per_object,
                "refusals": refusals(),
                "checks": checks(),
            },
            separators=(",", ":"),
            allow_nan=False,
        ),
    )


def preset(fragment: str, changes: dict[str, Any]) -> dict[str, Any]:
    """The loss of a shipped fragment, in the page's words."""
    loss = build.load_config(FRAGMENTS / f"{fragment}.yaml").loss.classification
    return {key: getattr(loss, key) for key in KEYS} | changes


def refusals() -> dict[str, str]:
    """Why a loss is refused, by its activation, its background and whether it has a prior."""
    sentences = {}
    for activation, background, prior in product(
        get_args(Activation), get_args(Background), (None, 0.01)
    ):
        name = f"{activation} {background} {'no prior' if prior is None else 'prior'}"
        try:
            ClassCode(num_classes=3, activation=activation, background=background, prior=prior)
        except ValueError as error:
            sentences[name] = str(error).replace(str(prior), "PRIOR")
    return sentences


def checks() -> list[dict[str, Any]]:
    """Losses as the detector computes them, which the page compares with its own.

    Each of a state: the loss of an anchor of each class, and of background. Half of them under an
    untrained head (no `logits`), half at random logits.
    """
    draw = random.Random(0)
    refused = refusals()
    found: list[dict[str, Any]] = []
    while len(found) < CHECKS:
        state = {
            "activation": draw.choice(get_args(Activation)),
            "background": draw.choice(get_args(Background)),
            **{key: draw.choice(values) for key, values in CHECKED.items()},
        }
        prior = "no prior" if state["prior"] is None else "prior"
        if f"{state['activation']} {state['background']} {prior}" in refused:
            continue
        if len(found) % 2:
            state["classes"] = 3
            logits = [round(draw.uniform(-8, 8), 2) for _ in range(code_of(state).channels)]
            found.append({"state": state, "logits": logits, "losses": losses(state, logits)})
        else:
            found.append({"state": state, "losses": losses(state, None)})
    return found


def code_of(state: dict[str, Any]) -> ClassCode:
    """What the logits of a state mean."""
    return ClassCode(
        num_classes=state["classes"],
        activation=state["activation"],
        background=state["background"],
        prior=state["prior"],
    )


def losses(state: dict[str, Any], logits: list[float] | None) -> list[float]:
    """The detector's own loss of an anchor of each class, and of background, at logits (C,).

    logits: None for those of an untrained head.
    """
    code, classes = code_of(state), state["classes"]
    settings = FocalSettings(**{key: state[key] for key in KEYS})
    row = code.bias().double() if logits is None else torch.tensor(logits, dtype=torch.float64)
    matches = torch.tensor([[*range(classes), BACKGROUND]])
    costs = per_anchor_loss(
        row.expand(1, classes + 1, -1),
        matches,
        torch.eye(classes, dtype=torch.bool)[None],
        code=code,
        elementwise=classification_loss(settings, code, None).elementwise,
    )
    return [float(f"{cost:.8g}") for cost in costs[0].tolist()]
