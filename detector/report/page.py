"""report.html: one file that needs nothing else, for the screen, dark or light, and for paper."""

from __future__ import annotations

import re
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from detector.command_line import harmless
from detector.files import write_text
from detector.report import (
    fairness_section,
    model_sections,
    result_sections,
    run_sections,
    training_sections,
)
from detector.report.blocks import PageSection
from detector.report.folder import AblationFolder, read_folder
from detector.report.style import DARK, LIGHT, line_styles


def write_report(folder: Path, *, title: str = "") -> Path:
    """Write FOLDER/report.html from what an ablation left in FOLDER, and return its path.

    Equal folders give equal pages. The title is the folder's name where none is given. Whatever a
    run does not have is named as missing; InputError where results.json is.
    """
    ablation = read_folder(folder)
    text = _render(ablation, title or folder.resolve().name)
    path = folder / "report.html"
    # a name may hold escape sequences, which would command the terminal of whoever cats the page
    write_text(path, harmless(text))
    return path


def _sections(ablation: AblationFolder) -> list[PageSection]:
    """All of them, in the order of the page."""
    styles = line_styles([variant.name for variant in ablation.variants], ablation.baseline)
    sections = [
        result_sections.result_section(ablation, styles),
        run_sections.failure_section(ablation),
        training_sections.metric_section(ablation, styles),
        training_sections.share_section(ablation),
        model_sections.loss_section(ablation, styles),
        model_sections.calibration_section(ablation),
        model_sections.error_section(ablation, styles),
        model_sections.score_section(ablation),
        model_sections.class_section(ablation, styles),
        fairness_section.fairness_section(ablation),
        run_sections.config_section(ablation),
        run_sections.environment_section(ablation),
        run_sections.command_section(ablation),
    ]
    return [section for section in sections if section is not None]


def _render(ablation: AblationFolder, title: str) -> str:
    """Everything from the folder is escaped but the plots, whose text matplotlib escapes."""
    templates = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.filters["svg"] = Markup
    templates.filters["breakable"] = _breakable
    return templates.get_template("page.html.j2").render(
        title=title,
        question=result_sections.question(ablation),
        facts=result_sections.facts(ablation),
        sections=_sections(ablation),
        light=LIGHT,
        dark=DARK,
    )


def _breakable(text: str) -> Markup:
    """Escaped, and free to go on in a new line after _ and , as names of variants need it."""
    return Markup(re.sub("([_,])(?=[^ ])", r"\1<wbr>", str(escape(text))))
