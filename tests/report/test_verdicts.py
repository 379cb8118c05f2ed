"""Numbers as they are written, and what the verdicts say and do not say."""

from dataclasses import replace
from pathlib import Path

import pytest
from made_up import ablation_page, declared_results, folder, results, write

from detector.lab.results import Amendment, Tuning
from detector.report import numbers
from detector.report.comparisons import (
    EFFECTS,
    amended,
    diverging,
    flatness,
    pairing,
    replicate_data,
    verdicts,
)
from detector.report.folder import AblationFolder, read_folder


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
    assert [numbers.counted(n, "box", "boxes") for n in (0, 1, 2)] == [
        "0 boxes",
        "1 box",
        "2 boxes",
    ]
    assert [numbers.counted(n, "step") for n in (1, 1234)] == ["1 step", "1,234 steps"]


def test_values_of_a_config_are_written_as_in_one() -> None:
    """In all their digits, and with the minus that YAML reads."""
    values = (None, True, 2.0, -1e-5, 0.123456, "ohem", [1, 2])
    assert [numbers.yaml_value(value) for value in values] == [
        "null", "true", "2.0", "-1e-05", "0.123456", "ohem", "[1, 2]"
    ]  # fmt: skip


def test_significance_is_a_matter_of_the_corrected_p(ablation: AblationFolder) -> None:
    """p of ignored is .016 alone, of two contrasts .032 and of four .064; of plain_ce .004."""
    assert verdicts(ablation) == {
        "different": ["plain_ce - focal (−0.009)", "ignored - focal (−0.358)"]
    }
    more = [replace(one, name=f"{one.name}, again") for one in ablation.contrasts]
    found = verdicts(replace(ablation, contrasts=(*ablation.contrasts, *more)))
    assert [*found] == ["different", "not told apart"]
    assert found["not told apart"][0] == "ignored - focal (−0.358)"


def test_one_variant_alone_has_no_verdict(ablation: AblationFolder) -> None:
    assert verdicts(replace(ablation, variants=ablation.variants[:1], contrasts=())) == {}


def test_a_verdict_is_a_sentence_of_the_page(tmp_path: Path) -> None:
    write(tmp_path / "results.json", declared_results())
    page = ablation_page(tmp_path)
    correction = "(p &lt; 0.05 after the correction for 2 planned contrasts"
    assert f"<li><b>Different</b> {correction}): ignored - focal (−0.359).</li>" in page
    assert f"<li><b>Different, by less than 0.02</b> {correction}, and within the margin" in page
    assert "<li><b>Not planned</b>: plain_ce - ignored (+0.350). These were added when" in page
    found = [page.index(f"<b>{verdict}") for verdict in ("Different,", "Different<", "Not planned")]
    assert found == sorted(found)
    assert "Not tested" not in page and "no difference" not in page.casefold()


def test_not_told_apart_is_not_called_equal(tmp_path: Path) -> None:
    content = results()
    content["variants"][2]["values"] = {"0": 0.1, "1": 0.7, "2": 0.3}
    write(tmp_path / "results.json", content)
    page = ablation_page(tmp_path)
    assert "<b>Not told apart</b>: ignored - focal (+0.007). That does not show them equal" in page


def ending(ablation: AblationFolder, *last: float) -> AblationFolder:
    """Of plain_ce alone, whose run of seed k rose by last[k] in the last fifth of its training."""
    runs = [
        replace(
            run,
            records=[
                {"epoch": e, "validation/AP": v}
                for e, v in ((1, 0.1), (4, 0.5), (4.9, 0.5 + d), (5, 0.5 + d))
            ],
        )
        for run, d in zip(ablation.variants[1].runs, last, strict=True)
    ]
    return replace(ablation, variants=(replace(ablation.variants[1], runs=tuple(runs)),))


def test_flat_is_below_the_margin(ablation: AblationFolder) -> None:
    """Mean of .03, .03 and 0: +.02. Without a margin nobody says what is flat."""
    rising = ending(ablation, 0.03, 0.03, 0.0)
    said = "AP changed most under plain_ce: by +0.020, mean over seeds"
    assert f"{said}. No margin was declared" in flatness(rising)
    assert "less than the margin of 0.03: it was flat" in flatness(replace(rising, margin=0.03))
    moving = flatness(replace(rising, margin=0.01))
    assert "not flat at the end, by the margin of 0.01, under plain_ce:" in moving
    falling = replace(ending(ablation, -0.03, -0.03, 0.0), margin=0.01)
    assert "by −0.020" in flatness(falling) and "not flat" in flatness(falling)
    late, elsewhere = (
        replace(rising.variants[0], name=name, runs=()) for name in ("late", "theirs")
    )
    late = replace(late, diverged=(0,))
    beside = replace(rising, margin=0.03, variants=(*rising.variants, late, elsewhere))
    assert "mean over seeds (of late it is not known), which is less" in flatness(beside)
    once = replace(ablation, variants=())
    assert flatness(once).startswith("No run was validated before the last fifth")


def test_detections_from_elsewhere_have_no_training_to_be_flat(ablation: AblationFolder) -> None:
    """Their one record stands at epoch 0, and would be a change of 0 over its last fifth."""
    run = replace(ablation.runs[0], seconds=None, records=[{"epoch": 0.0, "validation/AP": 0.5}])
    theirs = replace(ablation, variants=(replace(ablation.variants[0], runs=(run,)),))
    assert flatness(theirs).startswith("No run was validated before the last fifth")


def test_runs_that_diverged_qualify_the_intervals(ablation: AblationFolder) -> None:
    assert diverging(ablation) == ""
    first, *others = ablation.variants
    lost = replace(ablation, variants=(replace(first, diverged=(1,)), *others))
    assert diverging(lost).startswith("Runs diverged, and intervals then hold together less often")
    assert diverging(replace(lost, metric="loss")) == ""  # they have no interval


def test_what_the_seeds_have_in_common(ablation: AblationFolder) -> None:
    """Nothing is said of the data of an older file, which does not record them."""
    assert pairing(ablation).endswith("share, and see the same images in the same order.")
    focal, plain, ignored = ablation.variants
    longer = replace(ablation.variants[1], changes={"schedule.epochs": (10, 20)})
    shorter = replace(ablation, variants=(ablation.variants[0], longer))
    assert pairing(shorter).endswith("in the same order, as far as the shorter one goes.")
    changed = {"data.val.images": (1, 2), "train.batch_size": (8, 16), "data.augment": (1, 2)}
    batches = replace(ablation, variants=(focal, replace(plain, changes=changed), ignored))
    assert "they differ in data.augment, train.batch_size, and so" in pairing(batches)
    assert replicate_data(ablation) == ""
    weights = "model.weights=runs/base_{seed}/best.pt"
    assert replicate_data(replace(ablation, by_seed=(weights,))).startswith("All seeds have the")
    drawn = replace(ablation, by_seed=(weights, "data.train.annotations=a_{seed}.json"))
    assert replicate_data(drawn) == (
        "Each seed has data of its own (data.train.annotations=a_{seed}.json)."
    )
    folds = replace(ablation, by_seed=("data.folds={count: 5, fold: {seed}}",))
    assert replicate_data(folds).endswith("Training sets of folds overlap, so that they spread "
                                          "less than data drawn anew.")  # fmt: skip
    whole = replace(ablation, by_seed=("data={folds: {count: 5, fold: {seed}}}",))
    assert "folds overlap" in replicate_data(whole)
    tuning = Tuning({}, {}, None, (), None, None)
    tuned = replace(folds, variants=(replace(focal, tuning=tuning), plain, ignored))
    assert "images of which some are validated on in other folds" in replicate_data(tuned)


def test_an_amendment_says_what_p_is_worth() -> None:
    late = Amendment(
        "2026-11-27T10:00:00", "more power.", {"metric": "AP"}, {"metric": "AP50"}, True
    )
    assert amended(late) == [
        "2026-11-27: metric from AP to AP50, after results.json was written first.",
        "Reason given: more power.",
        EFFECTS["metric"],
    ]
    assert "before results.json" in amended(replace(late, results_seen=False))[0]


def test_a_half_written_line_is_left(ablation: AblationFolder) -> None:
    """The made-up journals end in the middle of a record, as those of killed runs do."""
    assert [record["step"] for record in ablation.runs[0].records] == [5, 10, 15, 20]
