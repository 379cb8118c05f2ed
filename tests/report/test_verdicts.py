"""Numbers as they are written, and what the verdicts say and do not say."""

from dataclasses import replace
from pathlib import Path

import pytest
from made_up import folder, tuned_results, write

from detector.report import numbers
from detector.report.folder import AblationFolder, read_folder
from detector.report.page import write_report
from detector.report.tables import Verdict, verdicts


@pytest.fixture(scope="module")
def ablation(tmp_path_factory: pytest.TempPathFactory) -> AblationFolder:
    return read_folder(folder(tmp_path_factory.mktemp("verdicts") / "tiny"))


def test_numbers() -> None:
    assert numbers.decimal(0.35149) == "0.351" and numbers.decimal(None) == "–"
    assert numbers.decimal(-0.0126, sign="+") == "−0.013"
    assert numbers.decimal(0.01, sign="+") == "+0.010"
    assert numbers.decimal(-0.0001, sign="+") == "0.000"
    assert numbers.interval((-0.02, 0.031), sign="+") == "−0.020 to +0.031"
    assert [numbers.probability(p) for p in (0.0, 0.00099, 0.001, None)] == [
        "< 0.001", "< 0.001", "0.001", "–"
    ]  # fmt: skip
    assert [numbers.percent(p) for p in (0.012, 0.0994, 0.0996, 0.5, None)] == [
        "1.2 %", "9.9 %", "10 %", "50 %", "–"
    ]  # fmt: skip
    assert [numbers.four_digits(v) for v in (2.0, -1e-5, 123456.0, 7, None)] == [
        "2",
        "−1e−05",
        "1.235e+05",
        "7",
        "–",
    ]


def test_values_of_a_config_are_written_as_in_one() -> None:
    """In all their digits, and with the minus that YAML reads."""
    values = (None, True, 2.0, -1e-5, 0.123456, "ohem", [1, 2])
    assert [numbers.yaml_value(value) for value in values] == [
        "null", "true", "2.0", "-1e-05", "0.123456", "ohem", "[1, 2]"
    ]  # fmt: skip


def test_significance_is_a_matter_of_the_corrected_p(ablation: AblationFolder) -> None:
    """plain_ce has p_holm .0082; ignored .124, for it has two seeds: a large difference, unseen."""
    assert verdicts(ablation) == [Verdict("focal", ["plain_ce"], ["ignored"], [])]


def test_significant_before_the_correction_alone_is_not_significant(
    ablation: AblationFolder,
) -> None:
    focal, plain, ignored = ablation.variants
    assert plain.difference is not None
    nearly = replace(plain, difference=replace(plain.difference, p=0.02, p_holm=0.06))
    (verdict,) = verdicts(replace(ablation, variants=(focal, nearly, ignored)))
    assert verdict == Verdict("focal", [], ["plain_ce", "ignored"], [])


def test_one_variant_alone_has_no_verdict(ablation: AblationFolder) -> None:
    assert verdicts(replace(ablation, variants=ablation.variants[:1])) == []


def test_tuned_is_compared_with_tuned_alone(tmp_path: Path) -> None:
    """plain_ce_tuned is far from the untuned baseline by any p, which no sentence may say."""
    results = tuned_results()
    _, plain, _, tuned = results["variants"]
    tuned["difference"] = plain["difference"] | {"mean": 0.777, "p_holm": 0.0001}
    plain["tuning"]["difference"] |= {"p": 0.04, "p_holm": 0.04}
    write(tmp_path / "results.json", results)
    assert verdicts(read_folder(tmp_path)) == [
        Verdict("focal", ["plain_ce"], ["ignored"], []),
        Verdict("focal, both tuned", ["plain_ce"], [], []),
    ]


def test_a_tuned_variant_without_a_tuned_baseline_has_no_verdict(tmp_path: Path) -> None:
    results = tuned_results()
    results["variants"][0]["tuning"] = None
    write(tmp_path / "results.json", results)
    assert [verdict.baseline for verdict in verdicts(read_folder(tmp_path))] == ["focal"]


def test_a_verdict_is_a_sentence_of_the_page(tmp_path: Path) -> None:
    page = write_report(folder(tmp_path / "tiny")).read_text(encoding="utf-8")
    assert "<li>Different from focal (p &lt; 0.05 after the correction): plain_ce.</li>" in page
    assert "<li>Not shown to differ from focal: ignored. That does not prove them" in page
    assert "Not tested" not in page


def test_a_half_written_line_is_left(ablation: AblationFolder) -> None:
    """The made-up journals end in the middle of a record, as those of killed runs do."""
    assert [record["step"] for record in ablation.runs[0].records] == [5, 10, 15, 20]
