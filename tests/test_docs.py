"""Every command of the documents runs on tiny data, or is listed here with the reason why not."""

import json
import re
import shlex
import shutil
import subprocess
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from conftest import HOME, call_script
from PIL import Image
from pydantic import BaseModel
from torchvision.models.detection import RetinaNet_ResNet50_FPN_Weights, retinanet_resnet50_fpn

import detector
from detector import build
from detector.config import load, parse
from detector.data.video import written
from detector.imported import imported
from detector.lab.plan import Plan
from detector.settings.ablation import Ablation, Published, VariantSettings

DOCUMENTS = [
    "README.md", "docs/guide.md", "docs/results.md", "docs/performance.md", "docs/deploy.md",
    "docs/statistics.md",
]  # fmt: skip
TRAIN, EVALUATE = "python tools/train.py", "python tools/evaluate.py"
ABLATE = "python tools/ablate.py"
COCO_NAMES = RetinaNet_ResNet50_FPN_Weights.COCO_V1.meta["categories"]
PUBLISHED = "retinanet_resnet50_fpn_coco-eeacb38b.pth"


# which of the settings of `tiny` a command is given
ALL, OWN_DATA, DATA, NONE = r".", r"(?!data\.(train|val)\.)", r"data\.|train\.device", r"$"


class Case(NamedTuple):
    """What makes a command quick, and what it then says on stdout and leaves."""

    tiny: str
    more: Sequence[str]
    says: str
    leaves: str


SHORT = ["--set", "schedule.steps=2"]
SCRATCH = ["--set", "model.backbone={name: resnet18, weights: null, frozen_stages: 0}"]
MEASURE_LITTLE = "--only matching --rounds 1 --anchors 2000 --boxes 5".split()
OF_COCO = "data/digits/annotations/of_coco.json"
FOUND = "runs/demo/evaluation/best/detections.json"
XML = (
    "<annotation><object><name>dog</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>9</xmax>"
    "<ymax>9</ymax></bndbox></object></annotation>"
)
RUN = {
    "python data/fruit.py --output data/fruit": Case(
        NONE, ["--images", "30"], r"data/fruit: 30 images", "data/fruit/Annotations/0030.xml"
    ),
    "python tools/convert.py data/fruit --to data/fruit_coco --split 0.2": Case(
        NONE, [], r"images: data/fruit/JPEGImages", "data/fruit_coco/val.json"
    ),
    "python tools/check.py --config configs/fruit.yaml": Case(
        OWN_DATA, SCRATCH, r"anchors", "runs/check_fruit/check.html"
    ),
    f"{TRAIN} --config configs/fruit.yaml": Case(
        OWN_DATA, SCRATCH, r"boxes by class: apple(.|\n)*step 4/4 ",
        "runs/fruit/checkpoints/best.pt",
    ),
    "python tools/report.py --run runs/fruit": Case(NONE, [], r"", "runs/fruit/report.html"),
    "python tools/predict.py --run runs/fruit data/fruit/JPEGImages --score auto"
    " --output runs/fruit_drawn": Case(
        NONE, [], r"best F1(.|\n)*orange", "runs/fruit_drawn/thresholds.json"
    ),
    "python tools/convert.py photographs --to data/converted --split 0.2": Case(
        NONE, [], r"Pascal VOC(.|\n)*dog +13 +3", "data/converted/data.yaml"
    ),
    f"{TRAIN} --config configs/mine.yaml": Case(
        OWN_DATA, [*SCRATCH, "schedule.kind=cosine", "schedule.steps=2"],
        r"boxes by class: dog(.|\n)*step 2/2 ", "runs/mine/checkpoints/best.pt",
    ),
    f"{TRAIN} --config configs/mine_tuned.yaml --set model.weights=runs/demo/checkpoints/best.pt":
    Case(
        OWN_DATA, [], r"weights of runs/demo/.*:\n  copied: backbone, (.|\n)*step 4/4 ",
        "runs/mine_tuned/checkpoints/best.pt",
    ),
    f"{TRAIN} --config configs/digits.yaml --output runs/demo_softmax"
    " --set loss.classification.activation=softmax loss.classification.background=class"
    " loss.classification.gamma=0 loss.classification.alpha=null": Case(
        ALL, SHORT, r"step 2/2 ", "runs/demo_softmax/checkpoints/best.pt"
    ),
    f"{TRAIN} --config configs/digits.yaml --output runs/one_term"
    " --set loss.classification.activation=softmax loss.classification.background=ignored"
    " loss.classification.gamma=0 loss.classification.alpha=null loss.classification.prior=null":
    Case(ALL, SHORT, r"step 2/2 ", "runs/one_term/checkpoints/best.pt"),
    f"{TRAIN} --config configs/digits.yaml --output runs/demo --resume": Case(
        ALL, [], r"resumed at step 2 of 4(.|\n)*step 4/4 ", "runs/demo/checkpoints/last.pt"
    ),
    f"{EVALUATE} --run runs/demo": Case(NONE, [], r"AP50", FOUND),
    "python tools/report.py --run runs/demo": Case(
        NONE, [], r"^runs/demo/report.html$", "runs/demo/report.html"
    ),
    f"{EVALUATE} --run runs/demo --checkpoint last": Case(
        NONE, [], r"checkpoint last", "runs/demo/evaluation/last/metrics.json"
    ),
    f"{EVALUATE} --run runs/demo --set postprocess.nms=0.6 --output runs/demo_nms": Case(
        NONE, [], r"AP50", "runs/demo_nms/metrics.json"
    ),
    f"{EVALUATE} --detections {FOUND} --ground-truth data/digits/annotations/val.json": Case(
        NONE, [], r"AP50", FOUND
    ),
    f"{EVALUATE} --run runs/demo_softmax": Case(
        NONE, [], r"AP50", "runs/demo_softmax/evaluation/best/detections.json"
    ),
    "python tools/check.py --config configs/digits.yaml --output runs/check_digits": Case(
        ALL, [], r"the proposal reach", "runs/check_digits/check.html"
    ),
    "python tools/compare.py runs/demo runs/demo_softmax": Case(
        NONE, ["--resamples", "100"], r"95 % interval", FOUND
    ),
    "python tools/diagnose.py --run runs/demo": Case(
        NONE, [], r"D-ECE", "runs/demo/diagnosis/best/diagnostics.json"
    ),
    "python tools/diagnose.py --detections runs/demo/evaluation/best/detections.json"
    " --ground-truth data/digits/annotations/val.json --output runs/demo_file": Case(
        NONE, [], r"optimal LRP error", "runs/demo_file/diagnostics.json"
    ),
    f"{ABLATE} --config configs/ablations/mine.yaml --output runs/mine_losses --dry-run": Case(
        ALL, [], r"classification.gamma: 2.0 -> 0.0(.|\n)*about 0:", "configs/ablations/mine.yaml"
    ),
    "python tools/predict.py --run runs/demo data/digits/val --output runs/demo_found": Case(
        NONE, [], r"demo_found", "runs/demo_found/000001.jpg"
    ),
    "python tools/predict.py --run runs/demo data/digits/val/*.jpg --output runs/demo_best"
    " --score auto": Case(NONE, [], r"best F1(.|\n)*nine", "runs/demo_best/thresholds.json"),
    "python tools/predict.py --run runs/demo clip.mp4 --output runs/demo_clip"
    " --score 0.3 one=0.5 seven=0.2": Case(NONE, [], r"demo_clip", "runs/demo_clip/clip.mp4"),
    f"{EVALUATE} --config configs/torchvision_v1.yaml --set model.weights={PUBLISHED}"
    " --output runs/torchvision_v1": Case(
        DATA, ["--set", f"data.val.annotations={OF_COCO}"], r"AP50",
        "runs/torchvision_v1/metrics.json",
    ),
    "python tools/benchmark.py --config configs/digits.yaml --classes 10 --output runs/benchmark":
    Case(ALL, MEASURE_LITTLE, r"matching", "runs/benchmark/benchmark.json"),
}  # fmt: skip
BENCHMARK_R50 = "python tools/benchmark.py --config configs/coco_r50_1x.yaml"
AT_320 = "--set train.batch_size=4 data.resize={width: 320, height: 320}"
NOT_RUN = {
    "make demo": "trains for minutes; its commands are run by other tests",
    "make test": "would run this test",
    "python -m venv .venv && . .venv/bin/activate": "needs a network",
    "pip install --constraint constraints.txt --editable .[demo,export,timm,video]":
    "needs a network",
    "python data/coco.py --output data/coco": "needs a network",
    f"{TRAIN} --config configs/coco_r50_1x.yaml": "needs COCO",
    "torchrun --nproc-per-node 8 tools/train.py --config configs/coco_r50_1x.yaml": "needs COCO",
    f"{EVALUATE} --run runs/coco_r50_1x": "needs COCO; runs/demo stands for it",
    f"{ABLATE} --config configs/ablations/mine.yaml --output runs/mine_losses --workers 2":
    "six runs; tests/test_ablate.py has four like them",
    f"{ABLATE} --config configs/ablations/mine.yaml --output runs/mine_all"
    " --merge runs/mine_part1 runs/mine_part2": "tests/lab/test_merge.py does it",
    f"{ABLATE} --config configs/ablations/background.yaml --output runs/background --workers 2":
    "fifteen runs",
    f"{ABLATE} --config configs/ablations/coco_background.yaml --workers 8": "needs COCO",
    "python data/digits.py --size 128 --objects 0 3 --scale 20 46 --classes 0 1 4 --val 400"
    " --seed 1000 --output data/sparse_1000": "3,400 images",
    f"{ABLATE} --config configs/ablations/background_sparse_tuning.yaml"
    " --output runs/background_sparse_tuning --workers 2": "33 runs of five minutes",
    f"{ABLATE} --config configs/ablations/background_sparse.yaml"
    " --output runs/background_sparse --workers 2": "20 runs of five minutes",
    "for side in 64 96 128; do for seed in 0 1 2 3 4; do python data/digits.py --size $side"
    " --objects 0 3 --scale 20 38 --classes 0 1 4 --val 400 --seed $seed"
    " --output data/canvas${side}_$seed; done; done": "15 sets of 3,400 images",
    f"{ABLATE} --config configs/ablations/imbalance.yaml --output runs/imbalance --workers 2":
    "60 runs of two to five minutes",
    f"{ABLATE} --config configs/ablations/length.yaml --output runs/length --workers 2":
    "45 runs of one to ten minutes",
    "python tools/export.py --run runs/fruit --output runs/fruit.onnx":
    "tests/test_export.py does it",
    "python tools/export.py --run runs/demo --output runs/demo/detector.onnx":
    "tests/test_export.py does it",
    "python tools/export.py --run runs/demo --output runs/demo/detector.pt2": "likewise",
    "python tools/simulate_tests.py": "minutes; tests/lab/test_simulate_tests.py runs it small",
    "make gpu": "needs a GPU; tests/test_check_gpu.py runs it at toy size",
    "python tools/check_gpu.py --output runs/gpu": "likewise",
    "python tools/check_gpu.py --output runs/gpu_step --only step --minutes 4": "likewise",
    "python tools/check_gpu.py --quick --output runs/gpu_toy": "likewise",
    "python tools/benchmark.py --only loss matching step": "minutes",
    "python tools/benchmark.py --only index evaluation --images 1000"
    " --output runs/benchmark_data": "likewise",
    "python tools/benchmark.py --config configs/coco_r50_1x.yaml --only step"
    " --output runs/benchmark_step": "minutes",
    "python tools/benchmark.py --only parts predict loader --output runs/benchmark_parts":
    "minutes",
    f"{BENCHMARK_R50} --only step parts {AT_320} --output runs/benchmark_r50": "minutes",
    f"{BENCHMARK_R50} --only predict loader {AT_320} --images 500"
    " --output runs/benchmark_r50_predict": "minutes",
    "python data/digits.py --classes 0 1 2 3 4 --output data/low":
    "3300 images; tests/test_digits_data.py makes some",
    "python data/digits.py --classes 5 6 7 8 9 --output data/high": "likewise",
    f"{TRAIN} --config configs/bccd.yaml": "needs BCCD and ImageNet weights",
    f"{TRAIN} --config configs/bccd_cross_entropy.yaml": "needs BCCD and ImageNet weights",
    f"{TRAIN} --config configs/bccd_background_cross_entropy.yaml": "needs BCCD",
}  # fmt: skip


def blocks(document: str, language: str) -> list[str]:
    """What stands between the fences of this language."""
    text = (HOME / document).read_text(encoding="utf-8")
    fenced = re.findall(r"^```(\w*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return [block for found, block in fenced if found == language]


def commands() -> dict[str, list[str]]:
    """The words of every command in an unnamed block, by the command without its comment."""
    shell = [block for document in DOCUMENTS for block in blocks(document, "")]
    shell = [block for block in shell if not block.startswith("configs/ ")]  # the file tree
    lines = [line for block in shell for line in block.replace("\\\n", " ").splitlines()]
    split = [shlex.split(line, comments=True) for line in lines]
    return {" ".join(words): words for words in split if words}


def test_every_command_is_known_here() -> None:
    assert set(commands()) == {*RUN, *NOT_RUN}


@pytest.fixture(scope="module")
def project(finished: Path, digits: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project's folder as the documents suppose it, with tiny data and runs."""
    folder = tmp_path_factory.mktemp("project")
    (folder / "tools").symlink_to(HOME / "tools")
    (folder / "data").mkdir()
    (folder / "data" / "fruit.py").symlink_to(HOME / "data" / "fruit.py")
    shutil.copytree(HOME / "configs", folder / "configs")
    for block in blocks("docs/guide.md", "yaml"):
        (folder / block.splitlines()[0].removeprefix("# ")).write_text(block)
    shutil.copytree(digits, folder / "data" / "digits")
    shutil.copytree(digits / "train", folder / "photographs")
    for image in (folder / "photographs").iterdir():
        image.with_suffix(".xml").write_text(XML)
    document = json.loads((folder / "data/digits/annotations/val.json").read_text())
    for category, name in zip(document["categories"], COCO_NAMES[1:], strict=False):
        category["name"] = name  # channels go by names, and the published network has none of ours
    (folder / OF_COCO).write_text(json.dumps(document))
    shutil.copytree(finished, folder / "runs" / "demo")
    with written(folder / "clip.mp4", Fraction(10)) as add:
        for number in range(2):
            add(Image.new("RGB", (96, 64), (90, 0, 0)), number / 10)
    last = folder / "runs" / "demo" / "checkpoints" / "last.pt"
    state = torch.load(last, weights_only=True)
    torch.save({**state, "step": 2, "validated": 2}, last)  # as if it had been stopped there
    detector = retinanet_resnet50_fpn(weights=None, weights_backbone=None)
    torch.save(detector.state_dict(), folder / PUBLISHED)
    return folder


def test_every_ablation_of_the_guide_builds(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (own,) = (text for text in blocks("docs/guide.md", "python") if "# my_loss.py" in text)
    (project / "my_loss.py").write_text(own)
    monkeypatch.syspath_prepend(project)
    for name in ("mine", "mine_grid", "mine_tuned", "mine_declared", "mine_folds", "mine_own"):
        file = project / "configs" / "ablations" / f"{name}.yaml"
        assert len(Plan.read(file, [], load=build.load_config).variants) > 1


def test_the_guides_contents_link_to_all_of_its_sections() -> None:
    """By GitHub's names of headings: small, without marks, a hyphen for each blank."""
    head, *sections = (HOME / "docs" / "guide.md").read_text().split("\n## ")
    titles = [section.partition("\n")[0] for section in sections]
    names = {re.sub(r"[^\w -]", "", t.lower()).replace(" ", "-"): t for t in titles}
    links = re.findall(r"\[([^]]+)\]\(#([^)]+)\)", head)
    assert sorted(links) == sorted((title, name) for name, title in names.items())


def test_the_guide_shows_every_key_of_an_ablation() -> None:
    def rows(section: type[BaseModel], above: str = "") -> list[str]:
        found = []
        for name, field in section.model_fields.items():
            default = "required" if field.is_required() else f"`{json.dumps(field.default)}`"
            found.append(f"| `{above}{name}` | {default} | {field.description} |")
        return found

    variant, published = "variants.NAME.", "variants.NAME.published."
    table = [*rows(Ablation), *rows(VariantSettings, variant), *rows(Published, published)]
    assert (
        "\n".join(["| key | default | meaning |", "|---|---|---|", *table, "\n"])
        in (HOME / "docs" / "guide.md").read_text()
    )


@pytest.fixture(scope="module")
def done(project: Path, tiny: list[str]) -> dict[str, "subprocess.CompletedProcess[str]"]:
    """What all commands said, in the documents' order."""

    def call(command: str) -> "subprocess.CompletedProcess[str]":
        (_, *words), case = documented[command], RUN[command]
        settings = [setting for setting in tiny if re.match(case.tiny, setting)]
        quick = [*(["--set", *settings] if settings else []), *case.more]
        return call_script(Path(words[0]), *words[1:], *quick, cwd=project)

    documented = commands()
    return {command: call(command) for command in documented if command in RUN}


@pytest.mark.parametrize("command", RUN)
def test_the_command_runs(
    command: str, done: dict[str, "subprocess.CompletedProcess[str]"], project: Path
) -> None:
    process, case = done[command], RUN[command]
    assert process.returncode == 0, process.stderr
    assert re.search(case.says, process.stdout), process.stdout
    assert (project / case.leaves).is_file()


@pytest.mark.parametrize("command", NOT_RUN)
def test_what_is_not_run_names_what_there_is(command: str) -> None:
    """Scripts and their options, configs that load, targets of make."""
    words = command.split()
    for script in (word for word in words if word.endswith(".py")):
        sources = [script, f"detector/cli/{Path(script).name}", "detector/command_line.py"]
        text = "".join((HOME / s).read_text() for s in sources if (HOME / s).is_file())
        after = words[words.index(script) :]
        options = [word for word in after if word.startswith("--")]
        assert not [o for o in options if f'"{o}"' not in text and f'"{o[2:]}"' not in text]
    configs = [word for word in words if word.endswith(".yaml")]
    for config in (path for path in configs if "ablations" not in path):  # tests/lab/test_plan.py
        file = HOME / config
        file = file if file.is_file() else Path(config)  # shipped, by name
        assert build.load_config(file).train.batch_size > 0
    if words[0] == "make":
        assert re.search(rf"^{words[1]}:", (HOME / "Makefile").read_text(), re.MULTILINE)


def test_the_guides_augmentations(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One pixel of 255 - 0 at noise of 4 levels: 255 or somewhat less."""
    monkeypatch.chdir(tmp_path)
    (code,) = (text for text in blocks("docs/guide.md", "python") if "def negative" in text)
    lists = [text for text in blocks("docs/guide.md", "yaml") if "augment:" in text]
    (tmp_path / "my_augment.py").write_text(code)
    (tmp_path / "own.yaml").write_text(next(text for text in lists if "my_augment" in text))
    steps = [one.augmentation() for one in load(tmp_path / "own.yaml").data.augment]
    black = detector.Sample(
        torch.zeros(3, 9, 9, dtype=torch.uint8), torch.zeros(0, 4), torch.zeros(0, 2) > 0,
        torch.zeros(0) > 0, 1, (9, 9), 0,
    )  # fmt: skip
    transform = detector.Transform(resize=detector.FixedSize(9, 9), augmentations=steps)
    image = transform(black, torch.Generator().manual_seed(0)).image
    assert 235 < image.min() < image.max() == 255
    for text in lists:
        parse(text.partition("train: {batch_size")[0].replace("base:", "# base:"), "guide")


def test_the_guides_format(tmp_path: Path, digits: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (code,) = (text for text in blocks("docs/guide.md", "python") if "csv.DictReader" in text)
    (tmp_path / "my_format.py").write_text(code)
    name = sorted((digits / "train").iterdir())[0].name
    (tmp_path / "a.csv").write_text(f"file,name,x,y,width,height\n{name},dog,1,2,9,8.5\n")
    read = imported("my_format:read")
    dataset = detector.CocoDataset(tmp_path / "a.csv", digits / "train", reader=read)
    assert dataset.class_names == ["cat", "dog"]
    assert dataset.index.boxes.tolist() == [[1, 2, 10, 10.5]]
    assert dataset.index.truth(0).labels.tolist() == [[False, True]]
