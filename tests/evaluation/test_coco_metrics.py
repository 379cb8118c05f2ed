"""COCO metrics: against paper and pencil and against pycocotools itself."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from detector.coco_matching import THRESHOLDS, matched
from detector.evaluation import coco, coco_files
from detector.files import write_json

ENGINES = ["hotcoco", "pycocotools"]


def data_set(boxes, *, images=(1, 2), categories=((1, "cat"), (2, "dog")), crowds=()):
    """COCO content; boxes are (image id, category id, x, y, w, h)."""
    return {
        "images": [{"id": i, "width": 640, "height": 480} for i in images],
        "categories": [{"id": i, "name": name} for i, name in categories],
        "annotations": [
            {
                "id": index + 1,
                "image_id": image,
                "category_id": category,
                "bbox": list(box),
                "area": box[2] * box[3],
                "iscrowd": int(index in crowds),
            }
            for index, (image, category, *box) in enumerate(boxes)
        ],
    }


def random_case(seed):
    """Sparse ids, crowds, ties, empty boxes, images without truth or detections, > 100 found."""
    rng = np.random.default_rng(seed)
    images = rng.choice(10_000, size=rng.integers(1, 9), replace=False).tolist()
    categories = rng.choice(500, size=rng.integers(1, 5), replace=False).tolist()

    def some_boxes(count):
        sizes = rng.choice([0.0, 5.0, 31.0, 32.0, 60.0, 96.0, 150.0], size=(count, 2))
        return np.hstack(
            [rng.integers(0, 200, size=(count, 2)), sizes + rng.integers(0, 3, (count, 2))]
        )

    count = int(rng.integers(0, 40))
    truth = some_boxes(count)
    image = rng.choice(images, size=count)
    category = rng.choice(categories, size=count)
    truth_rows = [
        (int(i), int(c), *b) for i, c, b in zip(image, category, truth.tolist(), strict=True)
    ]
    crowds = set(np.flatnonzero(rng.random(count) < 0.2).tolist())
    content = data_set(
        truth_rows, images=images, categories=[(c, f"c{c}") for c in categories], crowds=crowds
    )
    copies = [
        (image, *(box + rng.normal(0, 2, 4) * (rng.random() < 0.7)).clip(0), category)
        for image, category, box in zip(image, category, truth, strict=True)
    ]
    copies = np.insert(np.array(copies).reshape(-1, 6), 5, rng.random(count).round(1), axis=1)
    noise = int(rng.choice([0, 20, 260]))
    strays = np.column_stack([
        rng.choice(images, size=noise), some_boxes(noise),
        rng.random(noise).round(1), rng.choice(categories, size=noise),
    ])  # fmt: skip
    detections = np.vstack([copies, strays])
    return content, rng.permutation(detections)


def reference(content, detections, image_ids):
    """The figures that pycocotools itself reports, after its own summarize()."""
    truth = COCO()
    truth.dataset = json.loads(json.dumps(content))
    truth.createIndex()
    evaluation = COCOeval(truth, truth.loadRes(detections), "bbox")
    evaluation.params.imgIds = image_ids
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    return evaluation.stats.tolist()


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_both_engines_report_what_pycocotools_reports(seed):
    content, detections = random_case(seed)
    before = json.dumps(content)
    image_ids = [image["id"] for image in content["images"]]
    chosen = image_ids[: 1 + seed % len(image_ids)]
    ours, theirs = (
        coco.evaluate(detections, content, image_ids=chosen, engine=engine) for engine in ENGINES
    )
    assert ours.summary == theirs.summary
    assert ours.per_class == theirs.per_class
    assert np.array_equal(ours.precision, theirs.precision)
    if len(detections):
        assert list(ours.summary.values()) == reference(content, detections, chosen)
    assert json.dumps(content) == before


def test_random_cases_are_not_trivial():
    results = [coco.evaluate(b, a, image_ids=None) for a, b in map(random_case, range(20))]
    assert sum(0.05 < result.summary["AP"] < 0.95 for result in results) >= 10
    assert sum(result.detections > 200 for result in results) >= 3


@pytest.mark.parametrize("engine", ENGINES)
def test_a_perfect_detection(engine):
    content = data_set([(1, 1, 10, 10, 50, 40)])
    actual = np.array([[1, 10, 10, 50, 40, 0.9, 1]])
    result = coco.evaluate(actual, content, engine=engine)
    assert result.summary == pytest.approx(
        {"AP": 1, "AP50": 1, "AP75": 1, "APs": -1, "APm": 1, "APl": -1}
        | {"AR1": 1, "AR10": 1, "AR100": 1, "ARs": -1, "ARm": 1, "ARl": -1}
    )
    assert result.per_class == pytest.approx({"cat": 1, "dog": -1})


@pytest.mark.parametrize("engine", ENGINES)
def test_one_hit_and_one_miss(engine):
    """The false positive comes first, so precision is 1/2 up to recall 1/2, then 0:
    51 of the 101 recall thresholds (0 to 0.50) have precision 1/2."""
    content = data_set([(1, 1, 0, 0, 50, 50), (2, 1, 0, 0, 50, 50)])
    actual = np.array([[1, 200, 200, 50, 50, 0.9, 1], [1, 0, 0, 50, 50, 0.8, 1]])
    result = coco.evaluate(actual, content, engine=engine)
    assert result.summary["AP50"] == pytest.approx(0.5 * 51 / 101)
    assert result.summary["AR100"] == pytest.approx(0.5)
    assert result.summary["AR1"] == 0


@pytest.mark.parametrize("engine", ENGINES)
def test_a_shifted_box_counts_up_to_its_overlap(engine):
    """IoU of 100 x 100 boxes shifted by 20: 80 / 120 = 0.667: a hit at .50 .55 .60 .65 of ten."""
    content = data_set([(1, 1, 0, 0, 100, 100)])
    result = coco.evaluate(np.array([[1, 20, 0, 100, 100, 0.5, 1]]), content, engine=engine)
    assert result.summary["AP"] == pytest.approx(0.4)
    assert (result.summary["AP50"], result.summary["AP75"]) == pytest.approx((1, 0))


@pytest.mark.parametrize("engine", ENGINES)
def test_no_detections_give_zero_where_there_is_truth(engine):
    content = data_set([(1, 1, 10, 10, 50, 40)])
    result = coco.evaluate(np.zeros((0, 7)), content, engine=engine)
    assert (result.summary["AP"], result.summary["APs"]) == (0, -1)
    assert result.per_class == {"cat": 0, "dog": -1}


@pytest.mark.parametrize("engine", ENGINES)
def test_no_truth_leaves_every_figure_undefined(engine):
    result = coco.evaluate(np.array([[1, 0, 0, 5, 5, 0.5, 1]]), data_set([]), engine=engine)
    assert set(result.summary.values()) == {-1.0}


@pytest.mark.parametrize("engine", ENGINES)
def test_only_the_chosen_images_count(engine):
    content = data_set([(1, 1, 0, 0, 50, 50), (2, 1, 0, 0, 50, 50)])
    actual = np.array([[1, 0, 0, 50, 50, 0.8, 1], [2, 90, 90, 9, 9, 0.9, 1]])
    result = coco.evaluate(actual, content, image_ids=[1], engine=engine)
    assert result.summary["AP"] == pytest.approx(1)
    assert (result.images, result.detections, result.boxes) == (1, 1, {"cat": 1, "dog": 0})


@pytest.mark.parametrize("engine", ENGINES)
def test_classes_keep_the_order_of_the_file(engine):
    content = data_set([(1, 9, 0, 0, 50, 50)], categories=[(9, "z"), (2, "a"), (5, "z")])
    actual = np.array([[1, 0, 0, 50, 50, 0.8, 9]])
    result = coco.evaluate(actual, content, engine=engine)
    assert result.per_class == pytest.approx({"z (9)": 1, "a": -1, "z (5)": -1})
    assert result.class_names == ["z (9)", "a", "z (5)"]
    assert result.precision.shape == (10, 101, 3)
    assert (result.precision[..., 0] > 0.99).all() and (result.precision[..., 1:] == -1).all()


@pytest.mark.parametrize("engine", ENGINES)
def test_ids_below_zero_are_ids_as_any_other(engine):
    """Of -9's image both boxes are found, of -2**53 + 1's one of two, by the class of id -3."""
    images, categories = (4, -9, 1 - 2**53), ((-3, "cat"), (0, "dog"))
    boxes = [(-9, -3, 0, 0, 50, 50), (-9, 0, 9, 9, 50, 50), (1 - 2**53, 0, 0, 0, 50, 50)]
    actual = np.array([[-9, 0, 0, 50, 50, 0.9, -3], [-9, 9, 9, 50, 50, 0.8, 0]], np.float64)
    content = data_set(boxes, images=images, categories=categories)
    before = json.dumps(content)
    result = coco.evaluate(actual, content, engine=engine)
    assert result.per_class == pytest.approx({"cat": 1, "dog": 51 / 101})
    assert result.boxes == {"cat": 1, "dog": 2} and json.dumps(content) == before
    chosen = coco.evaluate(actual, content, image_ids=[-9], engine=engine)
    assert chosen.per_class == pytest.approx({"cat": 1, "dog": 1})


def test_matches_of_ids_below_zero_keep_their_ids():
    content = data_set([(-9, 0, 0, 0, 50, 50)], images=(4, -9), categories=((-3, "a"), (0, "b")))
    actual = np.array([[-9, 0, 0, 50, 50, 0.9, 0], [4, 0, 0, 50, 50, 0.9, -3]], np.float64)
    entries = matched(
        actual, content, image_ids=[-9, 4], category_ids=[-3, 0], thresholds=THRESHOLDS
    )
    hits = {(e["image_id"], e["category_id"]): e["dtMatched"][0] for e in entries}
    assert hits == {(-9, 0): [True], (4, -3): [False]}


@pytest.mark.parametrize("engine", ENGINES)
def test_engines_are_silent(engine, capfd, recwarn):
    coco.evaluate(
        np.array([[1, 0, 0, 50, 50, 0.8, 1]]), data_set([(1, 1, 0, 0, 9, 9)]), engine=engine
    )
    assert capfd.readouterr() == ("", "")
    assert not recwarn


def save(path, content):
    path.write_text(json.dumps(content))
    return path


@pytest.mark.parametrize("engine", ENGINES)
def test_annotation_zero_and_missing_keys_are_repaired(tmp_path, engine):
    content = data_set([(1, 1, 10, 10, 50, 40)])
    content["annotations"] = [{"id": 0, "image_id": 1, "category_id": 1, "bbox": [10, 10, 50, 40]}]
    truth = coco_files.load_ground_truth(save(tmp_path / "truth.json", content))
    assert truth["annotations"][0] | {"bbox": None} == {
        "id": 1, "image_id": 1, "category_id": 1, "bbox": None, "area": 2000, "iscrowd": 0,
    }  # fmt: skip
    actual = np.array([[1, 10, 10, 50, 40, 0.9, 1]])
    assert coco.evaluate(actual, truth, engine=engine).summary["AP"] == pytest.approx(1)


def test_area_of_the_file_is_kept(tmp_path):
    """COCO's areas are those of the outline, not of the box; small, medium, large go by them."""
    content = data_set([(1, 1, 10, 10, 50, 40)])
    content["annotations"][0]["area"] = 900
    truth = coco_files.load_ground_truth(save(tmp_path / "truth.json", content))
    result = coco.evaluate(np.array([[1, 10, 10, 50, 40, 0.9, 1]]), truth)
    assert (result.summary["APs"], result.summary["APm"]) == pytest.approx((1, -1))


@pytest.mark.parametrize("engine", ENGINES)
def test_a_box_of_negative_area_counts_and_is_said(tmp_path, engine):
    """50 x 40 = 2000 is of medium size; COCO's own tools would ignore the box everywhere."""
    content = data_set([(1, 1, 10, 10, 50, 40)])
    content["annotations"][0]["area"] = -2000
    truth = coco_files.load_ground_truth(save(tmp_path / "truth.json", content))
    result = coco.evaluate(np.array([[1, 10, 10, 50, 40, 0.9, 1]]), truth, engine=engine)
    assert (result.summary["AP"], result.summary["APm"]) == pytest.approx((1, 1))
    assert coco.metrics(result)["areas_replaced"] == 1
    assert "area not above 0: 1 boxes" in coco.metrics_table(result)


def test_table_names_every_figure_and_class():
    text = coco.metrics_table(coco.evaluate(np.zeros((0, 7)), data_set([(1, 1, 0, 0, 50, 50)])))
    lines = text.splitlines()
    assert [line.split()[0] for line in lines[:12]] == list(coco.HEADINGS)
    assert lines[0].split()[1] == "0.000" and lines[3].split()[1] == "-"
    assert [line.split() for line in lines[14:16]] == [["cat", "0.000", "1"], ["dog", "-", "0"]]


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "metrics.json"
    write_json(path, {"AP": 0.5})
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(path, {"AP": float("nan")})
    assert json.loads(path.read_text()) == {"AP": 0.5}
    assert list(tmp_path.iterdir()) == [path]


def test_the_command_on_foreign_files(tool, tmp_path):
    truth = save(tmp_path / "truth.json", data_set([(2, 1, 1, 2, 3, 4)]))
    actual = save(
        tmp_path / "found.json",
        [{"image_id": 2, "category_id": 1, "bbox": [1, 2, 3, 4], "score": 0.5}],
    )
    command = ("--detections", actual, "--ground-truth", truth, "--output", tmp_path / "out")
    first = tool("evaluate", *command)
    assert (first.returncode, first.stderr) == (0, "")
    assert first.stdout.startswith("AP      1.000")
    written = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert list(written)[:12] == list(coco.HEADINGS) and written["AP"] == pytest.approx(1)
    assert written["per_class"] == pytest.approx({"cat": 1, "dog": -1})
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [
        "metrics.json", "precision_recall.png",
    ]  # fmt: skip
    second = tool("evaluate", *command)
    assert second.returncode == 2 and "nothing is overwritten" in second.stderr


def test_the_command_refuses_wrong_input_in_one_line(refused, tmp_path):
    files = ("--detections", tmp_path / "a.json", "--ground-truth", tmp_path / "b.json")
    answer = refused("evaluate", *files, "--output", tmp_path / "out")
    assert answer.out == ""
    assert f"{tmp_path / 'b.json'}: cannot be read (No such file" in answer.err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("engine", ENGINES)
def test_a_class_is_judged_by_all_its_detections_and_a_crowd_is_no_box(engine):
    """Two cats in one image, both found; with one detection an image the AP would be about 1/2."""
    boxes = [(1, 1, 0, 0, 50, 50), (1, 1, 100, 0, 50, 50), (2, 1, 0, 0, 90, 90)]
    actual = np.array([[1, 0, 0, 50, 50, 0.9, 1], [1, 100, 0, 50, 50, 0.8, 1.0]])
    result = coco.evaluate(actual, data_set(boxes, crowds={2}), engine=engine)
    assert result.per_class["cat"] == pytest.approx(1)
    assert result.boxes == {"cat": 2, "dog": 0}


def test_what_bounds_recall_is_said() -> None:
    """Image 1 has three cats and a crowd of them, image 2 two cats and two dogs.

    Of 3 detections an image one is kept too few for image 2; COCO counts 100 of one class."""
    boxes = [(1, 1, 0, 0, 9, 9)] * 4 + [(2, 1, 0, 0, 9, 9)] * 2 + [(2, 2, 0, 0, 9, 9)] * 2
    small = data_set(boxes, crowds=(3,))
    assert coco.recall_limits(small, [1, 2], kept=4) == []
    (said,) = coco.recall_limits(small, [1, 2], kept=3)
    assert "1 of the images" in said and "up to 4 (image 2)" in said
    assert "postprocess.per_image is 3" in said
    assert coco.recall_limits(small, [1], kept=3) == coco.recall_limits(small, [1, 2]) == []
    full = [(7, 1, 0, 0, 9, 9)] * 60 + [(7, 2, 0, 0, 9, 9)] * 60 + [(8, 2, 0, 0, 9, 9)] * 101
    (said,) = coco.recall_limits(data_set(full, images=(7, 8)), [7, 8])
    assert "up to 101 (image 8) boxes of one class" in said and "100 detections" in said


NAN, UNKNOWN = [[1, 0, 0, 5, 5, np.nan, 1]], [[1, 0, 0, 5, 5, 0.5, 1], [7, 0, 0, 5, 5, 0.5, 1]]
WRONG_ARGUMENTS = {
    "not finite": (NAN, None, "detections has .*nan.* in row 0; expected finite numbers"),
    "of no image": (UNKNOWN, None, "detections has the image id 7 in row 1; expected an id"),
    "no images": (UNKNOWN[:1], [], "image_ids names no image; expected at least one"),
    "other images": (UNKNOWN[:1], [1, 9], "image_ids has 9; expected ids of the ground truth"),
}


@pytest.mark.parametrize("case", WRONG_ARGUMENTS)
def test_wrong_arguments_are_one_sentence(case):
    rows, image_ids, words = WRONG_ARGUMENTS[case]
    truth = data_set([(1, 1, 0, 0, 10, 10)])
    with pytest.raises(ValueError, match=words):
        coco.evaluate(np.array(rows, np.float64), truth, image_ids=image_ids)
