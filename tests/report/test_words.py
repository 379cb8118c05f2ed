"""Numbers as they are written, and what the sentences say and do not say."""

from dataclasses import replace
from pathlib import Path

import pytest
from made_up import folder, tuned_results, write

from detector.report import words
from detector.report.story import Story, read_story


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Story:
    return read_story(folder(tmp_path_factory.mktemp("words") / "tiny"))


def test_numbers() -> None:
    assert words.figure(0.35149) == "0.351" and words.figure(None) == "–"
    assert words.figure(-0.0126, sign="+") == "−0.013" and words.figure(0.01, sign="+") == "+0.010"
    assert words.figure(-0.0001, sign="+") == "0.000"
    assert words.interval((-0.02, 0.031), sign="+") == "−0.020 to +0.031"
    assert [words.probability(p) for p in (0.0, 0.00099, 0.001, None)] == [
        "< 0.001", "< 0.001", "0.001", "–"
    ]  # fmt: skip
    assert [words.percent(p) for p in (0.012, 0.0994, 0.0996, 0.5, None)] == [
        "1.2 %", "9.9 %", "10 %", "50 %", "–"
    ]  # fmt: skip
    assert [words.general(v) for v in (2.0, -1e-5, 123456.0, 7)] == [
        "2",
        "−1e−05",
        "1.235e+05",
        "7",
    ]


def test_values_of_a_config_are_written_as_in_one() -> None:
    """In all their digits, and with the minus that YAML reads."""
    values = (None, True, 2.0, -1e-5, 0.123456, "ohem", [1, 2])
    assert [words.exact(value) for value in values] == [
        "null", "true", "2.0", "-1e-05", "0.123456", "ohem", "[1, 2]"
    ]  # fmt: skip


def test_told_apart_is_a_matter_of_holms_p(story: Story) -> None:
    """plain_ce has p_holm .0082; ignored .124, for it has two seeds: a large difference, unseen."""
    first, second = words.told_apart(story)
    assert first == (
        "plain_ce lies 0.009 of AP below focal (−0.011 to −0.006; p 0.008 after Holm's correction)."
    )
    assert second.startswith("Not told apart from focal: ignored. That is no proof")


def test_between_a_test_and_its_correction(story: Story) -> None:
    """p .02 alone and .06 after Holm's: its interval leaves out 0, so it is not "inside" it."""
    plain = story.variants[1]
    assert plain.difference is not None
    nearly = replace(plain, difference=replace(plain.difference, p=0.02, p_holm=0.06))
    first, second = words.told_apart(replace(story, variants=(story.variants[0], nearly,
                                                              story.variants[2])))  # fmt: skip
    assert first == (
        "Told apart from focal by a test of its own, but not after Holm's correction for 2 tests: "
        "plain_ce. More seeds would settle it."
    )
    assert second.startswith("Not told apart from focal: ignored. ")


def test_a_difference_over_fewer_seeds_says_so(story: Story) -> None:
    ignored = story.variants[2]
    assert ignored.difference is not None
    apart = replace(ignored, difference=replace(ignored.difference, p=0.01, p_holm=0.01))
    (said,) = words.told_apart(replace(story, variants=(story.variants[0], apart)))
    assert said.endswith(
        "p 0.010 after Holm's correction; over 2 of 3 seeds, for the others have no figure)."
    )


def test_power_names_the_seeds_at_hand_and_those_it_takes(story: Story) -> None:
    assert words.power(story) == [
        "With 2 seeds a difference of half a point (0.005) would be seen less than four times out "
        "of five in ignored: given the spread of these differences that would take 34 seeds for "
        "ignored (a guess from 2, for one test, before Holm's correction).",
    ]


def test_power_is_not_promised_by_few_seeds(story: Story) -> None:
    plain = story.variants[1]
    assert plain.difference is not None and plain.difference.seeds_for_half_a_point == 2
    more = replace(plain, difference=replace(plain.difference, values=(-0.01,) * 5))
    assert words.power(replace(story, variants=(plain,))) == []
    assert words.power(replace(story, variants=(more,))) == [
        "With 5 seeds a difference of half a point (0.005) would be seen at least four times out "
        "of five in plain_ce (2 would do), if their differences spread as these 5 do, by one "
        "test, before Holm's correction.",
    ]


def test_many_variants_are_counted_in_the_sentence_on_power(story: Story) -> None:
    """Five copies of `ignored`, which need 34, 35 … 38 seeds."""
    ignored = story.variants[2]
    assert ignored.difference is not None
    many = tuple(
        replace(ignored, name=f"v{k}", difference=replace(ignored.difference,
                                                          seeds_for_half_a_point=34 + k))
        for k in range(5)
    )  # fmt: skip
    (said,) = words.power(replace(story, variants=many))
    assert "would be seen less than four times out of five in 5 variants" in said
    assert "that would take between 34 seeds (for v0) and 38 (for v4) (guesses from 2, " in said


def test_without_a_spread_nothing_is_said_of_power(story: Story) -> None:
    alone = replace(story, variants=story.variants[:1])
    assert words.power(alone)[0].startswith("How many seeds")
    assert words.told_apart(alone) == []


def test_half_a_point_is_none_of_a_loss(story: Story) -> None:
    assert words.power(replace(story, metric="loss/box")) == []


def test_tuned_is_compared_with_tuned_alone(tmp_path: Path) -> None:
    """plain_ce_tuned is far from the untuned baseline by any p, which no sentence may say."""
    found = tuned_results()
    _, plain, _, tuned = found["variants"]
    tuned["difference"] = plain["difference"] | {"mean": 0.777, "p_holm": 0.0001}
    plain["tuning"]["difference"] |= {"p": 0.04, "p_holm": 0.04}
    write(tmp_path / "results.json", found)
    story = read_story(tmp_path)
    assert words.told_apart(story) == [
        "plain_ce lies 0.009 of AP below focal (−0.011 to −0.006; p 0.008 after Holm's "
        "correction).",
        "Not told apart from focal: ignored. That is no proof that they are equal: every "
        "difference inside their intervals goes with these runs.",
        "plain_ce lies 0.002 of AP below focal, both tuned (−0.008 to +0.004; p 0.040 after "
        "Holm's correction).",
    ]
    assert not any("plain_ce_tuned" in said for said in words.power(story))


def test_a_tuned_variant_without_a_tuned_baseline_is_not_told_apart(tmp_path: Path) -> None:
    found = tuned_results()
    found["variants"][0]["tuning"] = None
    write(tmp_path / "results.json", found)
    assert not any("tuned" in said for said in words.told_apart(read_story(tmp_path)))


def test_names_are_listed() -> None:
    assert [words.names(list(n)) for n in ("a", "ab", "abc")] == ["a", "a and b", "a, b and c"]


def test_a_half_written_line_is_left(tmp_path: Path) -> None:
    """The made-up journals end in the middle of a record, as those of killed runs do."""
    story = read_story(folder(tmp_path / "tiny"))
    assert [record["step"] for record in story.runs[0].records] == [5, 10, 15, 20]
