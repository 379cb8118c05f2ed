"""report.html: one file that needs nothing else, for the screen, dark or light, and for paper."""

from __future__ import annotations

import re
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from detector.command_line import harmless
from detector.files import write_text
from detector.report import behaviour, fairness, findings, models, record
from detector.report.blocks import Section
from detector.report.ink import COLORS, DARK, looks
from detector.report.story import Story, read_story


def write_report(folder: Path, *, title: str = "") -> Path:
    """Write FOLDER/report.html from what an ablation left in FOLDER, and return its path.

    Equal folders give equal pages. The title is the folder's name where none is given. Whatever a
    run does not have is named as missing; InputError where results.json is.
    """
    story = read_story(folder)
    text = _render(story, sections(story), title or folder.resolve().name)
    path = folder / "report.html"
    write_text(path, harmless(text))
    return path


def sections(story: Story) -> list[Section]:
    """All of them, in the order of the page."""
    own = looks([variant.name for variant in story.variants], story.baseline)
    found = [
        findings.results(story, own),
        record.failures(story),
        behaviour.over_time(story, own),
        behaviour.origins(story),
        models.loss_distribution(story, own),
        models.calibration(story),
        models.errors(story, own),
        models.scores(story),
        models.classes(story, own),
        fairness.fairness(story),
        record.configs(story),
        record.environment(story),
        record.commands(story),
    ]
    return [section for section in found if section is not None]


def _render(story: Story, content: list[Section], title: str) -> str:
    """Everything from the folder is escaped but the drawings, which escaped it themselves."""
    templates = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.filters["drawing"] = Markup
    templates.filters["breakable"] = _breakable
    return templates.get_template("page.html.j2").render(
        title=title,
        question=findings.question(story),
        facts=findings.facts(story),
        sections=content,
        light=COLORS,
        dark=DARK,
    )


def _breakable(text: str) -> Markup:
    """Escaped, and free to go on in a new line after _ and , as names of variants need it."""
    return Markup(re.sub("([_,])(?=[^ ])", r"\1<wbr>", str(escape(text))))
