"""report.html: one file that needs nothing else, for the screen, dark or light, and for paper."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from detector.command_line import harmless
from detector.evaluation.calibration import SLOPES
from detector.files import write_text
from detector.report import comparisons, measures, tables
from detector.report.diagnostics import OWN
from detector.report.folder import AblationFolder
from detector.report.numbers import FILTERS
from detector.report.seed_means import loss_curves, other_losses, share_curves
from detector.settings.figures import worst_value

if TYPE_CHECKING:
    from detector.report.style import Drawing

HERE = Path(__file__).parent


def write_ablation_page(ablation: AblationFolder, *, title: str = "") -> Path:
    """Write report.html into the folder of an ablation, and return its path.

    Equal folders give equal pages. The title is the folder's name where none is given. Whatever a
    run does not have is named as missing.
    """
    text = rendered(
        HERE / "page.html.j2",
        title=title or ablation.path.resolve().name,
        ablation=ablation,
        comparisons=comparisons,
        tables=tables,
        measures=measures,
        slopes=SLOPES,
        worst=worst_value(ablation.metric),
        figures=draw_figures(ablation),
    )
    path = ablation.path / "report.html"
    write_text(path, text)
    return path


def rendered(template: Path, **content: object) -> str:
    """The text of a page: a template, which may use those of this folder, filled with `content`."""
    templates = Environment(
        loader=FileSystemLoader([template.parent, HERE]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.filters |= FILTERS | {"breakable": _breakable, "shell": shlex.join}
    # a name may hold escape sequences, which would command the terminal of whoever cats the page
    return harmless(templates.get_template(template.name).render(**content))


def draw_figures(ablation: AblationFolder) -> Mapping[str, Drawing | None]:
    """By name the addresses of each figure; None where there is nothing to draw."""
    # matplotlib takes half a second to import, which those who only train need not wait for
    from matplotlib import rc_context

    from detector.report import model_plots, result_plots, style

    baseline = ablation.variant(ablation.baseline)
    variants = style.line_styles([v.name for v in ablation.variants], ablation.baseline)
    gammas = {loss: style.line_style(k) for k, loss in enumerate(other_losses(baseline))}
    own = {v.name: loss_curves(v, OWN) for v in ablation.diagnosed}
    with rc_context(style.STYLE):
        figures = {
            "forest": result_plots.forest_plot(ablation, variants),
            "metric": result_plots.metric_plot(ablation, variants),
            "shares": result_plots.share_plot(
                {v.name: share_curves(v.finished, "loss") for v in ablation.variants},
                {v.name: share_curves(v.finished, "gradient") for v in ablation.variants},
            ),
            "own_losses": model_plots.cumulative_loss_plot(own, variants),
            "other_gammas": model_plots.cumulative_loss_plot(
                {loss: loss_curves(baseline, loss) for loss in gammas}, gammas
            ),
            "reliability": model_plots.reliability_plot(ablation),
            "recall": model_plots.recall_plot(ablation, variants),
            "errors": model_plots.variant_error_plot(ablation, variants),
            "histograms": model_plots.histogram_plot(ablation),
            "classes": model_plots.class_plot(ablation, variants),
        }
        return {name: style.drawing(f) if f else None for name, f in figures.items()}


def _breakable(text: object) -> Markup:
    """Escaped, and free to go on in a new line after _ , and /, as long names and paths need it."""
    return Markup(re.sub("([_,/])(?=[^ ])", r"\1<wbr>", str(escape(text))))
