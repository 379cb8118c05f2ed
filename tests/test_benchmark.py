"""tools/benchmark.py as a user calls it; times are noise, so only what must hold is asserted."""

import json
import math
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from benchmarking import made_up, tables, timing
from benchmarking.timing import (
    PARTS,
    Timing,
    as_graph,
    extra_peak,
    in_turn,
    kernels,
    part_shares,
    ratio,
    spread,
)
from conftest import HOME, Refused, exit_code, load_script

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
PRESETS = {"cross_entropy", "background_cross_entropy", "focal"}
SMALL = ["model.fpn.channels=16", "model.head.convs=1", "data.resize={width: 72, height: 40}"]
SIZES = "--rounds 2 --anchors 20000 --boxes 30 --classes 40 --images 40 --annotated 50".split()
KNOBS = [*SMALL, "train.batch_size=4", "evaluation.batch_size=2", "optimizer.accumulate=2",
         "train.ema=0.9", "train.device=cpu", "train.channels_last=false"]  # fmt: skip


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A finished benchmark of two micro-batches of two images, clipped and averaged."""
    folder = tmp_path_factory.mktemp("benchmark") / "deep" / "er"
    script = load_script(HOME / "tools" / "benchmark.py")
    words = ["--output", str(folder), *SIZES, "--set", *KNOBS]
    threads = torch.get_num_threads()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["benchmark.py", *words])
        patch.setattr("benchmarking.data.usable_cores", lambda: 1)
        torch.set_num_threads(1)
        assert exit_code(script.main) == 0
    torch.set_num_threads(threads)
    yield folder


@pytest.fixture(scope="module")
def report(output: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((output / "benchmark.json").read_text())
    return content


def ratios(tree: Any) -> list[dict[str, float]]:
    """Every {median, lowest, highest} of a report."""
    if not isinstance(tree, dict):
        return []
    inner = [one for value in tree.values() for one in ratios(value)]
    return inner + [tree] * ("median" in tree)


def test_the_file_says_what_was_measured(output: Path, report: dict[str, Any]) -> None:
    assert [path.name for path in output.iterdir()] == ["benchmark.json"]
    script = load_script(HOME / "tools" / "benchmark.py")
    measured = [name for name in script.SECTIONS if name not in script.BY_REQUEST]
    assert list(report) == ["environment", "setting", *measured]
    assert report["environment"]["torch"] == torch.__version__
    sizes = {"rounds": 2, "anchors": 20000, "boxes": 30, "classes": 40, "images": 40}
    assert {**sizes, "device": "cpu"}.items() <= report["setting"].items()


def test_every_ratio_has_its_range(report: dict[str, Any]) -> None:
    """Twice three losses, matching, three of steps, five parts, three presets, a diagnosis,
    prediction, loader, evaluation, and two readings of the index."""
    every = ratios(report)
    assert len(every) == 2 * 3 + 1 + 3 + (5 + 3 + 1) + 1 + 1 + 1 + 2
    assert all(0 < one["lowest"] <= one["median"] <= one["highest"] for one in every)


def test_losses_are_those_of_the_partners_in_less_memory(report: dict[str, Any]) -> None:
    """Equal gradients. By hand: torch's hold targets, gradient and one intermediate, 3 copies."""
    assert set(report["loss"]) == PRESETS
    for name, one in report["loss"].items():
        assert one["difference"] < 1e-5, name
        assert 1 < one["copies"] < 3.5, name
        assert one["over_copy"]["highest"] > 1 and one["bandwidth"] > 0, name
    for name in ("cross_entropy", "background_cross_entropy"):
        assert report["loss"][name]["partner_copies"] == pytest.approx(3, abs=0.5)
    assert report["loss"]["focal"]["partner_copies"] > 7


def test_matching_is_that_of_the_partner(report: dict[str, Any]) -> None:
    """By hand: the partner holds at least one table of pairs, 30 x 20,000 float32."""
    one = report["matching"]
    assert 0.99 < one["agreement"] <= 1
    assert one["partner_extra_bytes"] > 30 * 20_000 * 4
    assert one["memory"] == pytest.approx(one["partner_extra_bytes"] / one["extra_bytes"])


def test_the_step_beside_the_network_and_torchvisions(report: dict[str, Any]) -> None:
    """Four images of 72 x 40 are padded to multiples of 32. ResNet-18 has 11 million weights, of
    4 bytes, with a gradient and two moments each: a whole step holds more than 170 MB."""
    step = report["step"]
    assert step["images"] == [4, 64, 96] and step["backbone"] == "resnet18"
    assert list(step["sides"]) == ["ours", "torchvision", "torchvision_default", "network"]
    for name, one in step["sides"].items():
        assert one["images_per_second"] == pytest.approx(4000 / one["milliseconds"])
        assert one["launches"] is None and one["kernel_milliseconds"] is None
        assert one["peak_bytes"] > (80e6 if name == "network" else 170e6), name
    medians = {name: one["milliseconds"] for name, one in step["sides"].items()}
    assert step["ratios"].keys() == {
        "ours / network", "torchvision / ours", "torchvision_default / ours",
    }  # fmt: skip
    ratio = step["ratios"]["ours / network"]
    assert ratio["lowest"] <= medians["ours"] / medians["network"] <= ratio["highest"]


def test_the_step_is_divided(report: dict[str, Any]) -> None:
    """Focal's cost is its own unit. Of two rounds the median is the mean, so that the medians of
    the shares add up to 1."""
    parts = report["parts"]
    assert list(parts["share"]) == list(PARTS) and set(parts["cost"]) == PRESETS
    for end in ("lowest", "median", "highest"):
        assert all(0 < parts["share"][part][end] < 1 for part in PARTS)
    assert sum(one["median"] for one in parts["share"].values()) == pytest.approx(1)
    assert parts["diagnosis"]["lowest"] > 0 and parts["diagnosis_every"] == 20
    assert parts["cost"]["focal"] == {"median": 1, "lowest": 1, "highest": 1}


def test_other_parts_give_the_results_of_their_partners(report: dict[str, Any]) -> None:
    """7.2 boxes an image in 40 and in 50 images; torchvision keeps up to 300 detections each."""
    assert report["predict"]["images"] == [2, 128, 128]
    assert report["predict"]["agreement"] > 0.99 and report["predict"]["detections"] > 100
    assert report["loader"]["workers"] == 1 and report["loader"]["images"] == 24
    evaluation = report["evaluation"]
    assert (evaluation["boxes"], evaluation["detections"]) == (288, 4000)
    assert evaluation["difference"] < 1e-12
    assert report["index"]["boxes"] == 360


def test_tables_are_markdown(report: dict[str, Any]) -> None:
    for name in report.keys() - {"environment", "setting"}:
        for table in tables.tables(name, report[name]).split("\n\n"):
            lines = table.splitlines()
            assert len(lines) >= 3 and set(lines[1]) == {"|", "-"}
            assert len({line.count("|") for line in lines}) == 1
    assert tables.cell({"median": 0.0123, "lowest": 0.01, "highest": 1.5}) == (
        "0.012 (0.010 to 1.500)"
    )


def test_rows_with_the_same_heads_are_one_table() -> None:
    ratio = {"median": 1.25, "lowest": 1.0, "highest": 2.0}
    sides = {"ours": {"bytes": 12345, "rate": 0.125}, "other": {"bytes": None, "rate": 2e6}}
    figures = {"images": [4, 64, 96], "sides": sides, "ratios": {"ours / other": ratio}}
    assert tables.tables("step", figures).splitlines() == [
        "| what | images      |",
        "|------|-------------|",
        "| step | 4 x 64 x 96 |",
        "",
        "| what               | bytes  | rate      |",
        "|--------------------|--------|-----------|",
        "| step: sides: ours  | 12,345 | 0.125     |",
        "| step: sides: other | -      | 2,000,000 |",
        "",
        "| what         | ours / other        |",
        "|--------------|---------------------|",
        "| step: ratios | 1.25 (1.00 to 2.00) |",
    ]


def test_ratio() -> None:
    assert spread([3.0, 1.0, 8.0, 2.0]) == {"median": 2.5, "lowest": 1.0, "highest": 8.0}
    above, below = ([Timing(s, 9.0) for s in seconds] for seconds in ((6.0, 2.0), (2.0, 4.0)))
    assert ratio(above, below) == {"median": 1.75, "lowest": 0.5, "highest": 3.0}


def test_sides_run_in_turn() -> None:
    calls: list[str] = []
    works = {"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}
    times = in_turn(works, rounds=3, on=CPU)
    assert "".join(calls) == "ababab"
    assert {name: len(rounds) for name, rounds in times.items()} == {"a": 3, "b": 3}


def test_extra_peak_counts_what_is_held_at_once() -> None:
    """1000 float32 are kept while 500 and then 250 come and go: 4000 + 2000 bytes."""

    def work() -> torch.Tensor:
        kept = torch.ones(1000)
        torch.ones(500)
        torch.ones(250)
        return kept

    assert extra_peak(work, CPU) == 6000


def test_parts_share_out_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Parts of 1, 2, 3, 4 seconds, each twice in two micro-batches, and the rest, 20 of 40."""
    clock = SimpleNamespace(at=100.0)
    monkeypatch.setattr(timing, "_now", lambda on: clock.at)
    step: Any = SimpleNamespace(part=None)

    def work() -> None:
        for seconds, part in (*enumerate(PARTS[:4], 1), *enumerate(PARTS[:4], 1)):
            clock.at += 2.5
            with step.part(part):
                clock.at += seconds

    shares = part_shares(step, work, CPU)
    assert list(shares) == list(PARTS) and step.part is None
    assert list(shares.values()) == pytest.approx([0.05, 0.1, 0.15, 0.2, 0.5])


class FakeCuda:
    """Stands in for torch.cuda: a clock in milliseconds that `work` moves on by 40."""

    def __init__(self) -> None:
        self.clock, self.said = 0.0, []  # type: ignore[var-annotated]

    def synchronize(self, device: object = None) -> None:
        self.said.append("synchronize")

    def Event(self, *, enable_timing: bool) -> Any:  # noqa: N802 - torch's name
        event = SimpleNamespace(at=math.nan, synchronize=self.synchronize)
        event.record = lambda: setattr(event, "at", self.clock)
        event.elapsed_time = lambda end: end.at - event.at
        return event

    def work(self) -> None:
        self.clock += 40
        self.said.append("work")


def test_events_time_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    cuda = FakeCuda()
    for name in ("Event", "synchronize"):
        monkeypatch.setattr(torch.cuda, name, getattr(cuda, name))
    (timed,) = in_turn({"work": cuda.work}, rounds=1, on=CUDA)["work"]
    assert timed.device == 0.04 and 0 <= timed.host < 0.04
    assert cuda.said == ["synchronize", "work", "synchronize"]  # nothing is waited for in between


def test_a_graph_is_captured_after_a_warm_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three runs on a side stream, which waits and is waited for, one captured, then replays."""
    said: list[str] = []

    class Stream:
        def __init__(self, name: str) -> None:
            self.name = name

        def wait_stream(self, other: "Stream") -> None:
            said.append(f"{self.name} waits for {other.name}")

    class Within:
        def __init__(self, where: Any) -> None:
            self.where = where if isinstance(where, str) else getattr(where, "name", "graph")

        def __enter__(self) -> None:
            said.append(f"in {self.where}")

        def __exit__(self, *error: object) -> None:
            said.append(f"out of {self.where}")

    graph = SimpleNamespace(replay=lambda: said.append("replay"))
    fakes = {
        "Stream": lambda on: Stream("side"), "current_stream": lambda on: Stream("main"),
        "stream": Within, "graph": Within, "CUDAGraph": lambda: graph,
    }  # fmt: skip
    for name, fake in fakes.items():
        monkeypatch.setattr(torch.cuda, name, fake)
    as_graph(lambda: said.append("work"), CUDA)()
    assert said == [
        "side waits for main", "in side", *["work"] * timing.WARM_UP, "out of side",
        "main waits for side", "in graph", "work", "out of graph", "replay",
    ]  # fmt: skip


def test_launches_and_kernels_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Seven launches; kernels of 300 and a fill of 50 microseconds; rows of the host do not."""
    host, device = torch.autograd.DeviceType.CPU, torch.autograd.DeviceType.CUDA
    rows = [
        ("cudaLaunchKernel", host, 4, 0.0, False), ("cuLaunchKernelEx", host, 2, 0.0, False),
        ("cudaGraphLaunch", host, 1, 0.0, False), ("aten::mul", host, 6, 300.0, False),
        ("vectorized_elementwise", device, 6, 300.0, False), ("Memset", device, 1, 50.0, False),
        ("step", device, 1, 999.0, True),
    ]  # fmt: skip
    names = ("key", "device_type", "count", "self_device_time_total", "is_user_annotation")
    listed = [SimpleNamespace(**dict(zip(names, row, strict=True))) for row in rows]

    class Profile:
        def __init__(self, **options: object) -> None: ...

        def __enter__(self) -> "Profile":
            return self

        def __exit__(self, *error: object) -> None: ...

        def key_averages(self) -> list[Any]:
            return listed

    monkeypatch.setattr(timing, "profile", Profile)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda on: None)
    expected = {"launches": 7, "kernel_milliseconds": pytest.approx(0.35)}
    assert kernels(lambda: None, CUDA) == expected
    assert kernels(lambda: None, CPU) == dict.fromkeys(expected)


def test_made_up_annotations_lie_in_their_images() -> None:
    document = made_up.coco_document(40, 300)
    height, width = made_up.PHOTOGRAPH
    assert len(document["images"]) == 40 and len(document["annotations"]) == 300
    for one in document["annotations"]:
        x, y, w, h = one["bbox"]
        assert x >= 0 and y >= 0 and x + w <= width + 0.01 and y + h <= height + 0.01
    rows = made_up.detections(document, 400)
    assert rows.shape == (400, 7) and set(rows[:300, 6]) <= set(range(1, made_up.CLASSES + 1))


REFUSED = {
    "no rounds": (["--rounds", "0"], ["--rounds is 0", "at least 1"]),
    "no such config": (["--config", "none.yaml"], ["none.yaml"]),
    "no GPU": (["--set", "train.device=cuda"], ["train.device is cuda", "cpu"]),
    "a graph on a CPU": (
        ["--only", "matching", "step", "--sides", "ours_graph", "--set", "train.device=cpu"],
        ["--sides", "GPU"],
    ),
    "no partner": (
        ["--only", "step", "--sides", "torchvision", "--set", "train.device=cpu",
         "model.backbone.name=mobilenet_v2"], ["mobilenet_v2", "--sides"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_bad_arguments(refused: Refused, tmp_path: Path, case: str) -> None:
    arguments, words = REFUSED[case]
    said = refused("benchmark", "--output", tmp_path / "b", *arguments)
    assert all(word in said.err for word in words), said.err
    assert said.out == "" and not (tmp_path / "b").exists()


def test_an_existing_output_is_refused_before_anything_is_measured(
    refused: Refused, output: Path
) -> None:
    before = (output / "benchmark.json").read_bytes()
    said = refused("benchmark", "--output", output)
    assert str(output) in said.err and said.out == ""
    assert (output / "benchmark.json").read_bytes() == before
