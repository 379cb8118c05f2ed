"""Networks of timm: what is taken of them, what is refused, and a training on one from outside."""

from __future__ import annotations

import math
import signal
import sys
from pathlib import Path

import pytest
import timm
import torch
from conftest import HOME, Command
from PIL import Image
from runs_apart import assert_same_run, last_state
from timm.layers import BatchNormAct2d
from timm.layers.norm_act import SyncBatchNormAct
from torch import nn

import detector
from detector import build
from detector.engine.train import Trainer
from detector.errors import InputError
from detector.model.backbone import FrozenBatchNorm
from detector.model.pretrained import load_backbone
from detector.model.timm_backbone import FrozenBatchNormAct, TimmBackbone
from detector.model.timm_layout import layout_of

RESNET, CONVNEXT, MOBILENET = "timm/test_resnet", "timm/test_convnext", "timm/mobilenetv3_small_050"
IMAGES = torch.rand(2, 3, 64, 96, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", [RESNET, CONVNEXT, MOBILENET, "timm/hrnet_w18_small"])
def test_maps_at_any_size_and_a_gradient_for_whatever_is_trained(name: str) -> None:
    """convnext's patches would lose the rest of 100 x 75; hrnet has layers that no map needs."""
    backbone = TimmBackbone(name, "own", 0)
    maps = backbone(torch.rand(2, 3, 100, 75))
    for level, stride, channels in zip(maps, (8, 16, 32), backbone.channels, strict=True):
        assert level.shape == (2, channels, math.ceil(100 / stride), math.ceil(75 / stride))
    torch.stack([level.square().mean() for level in maps]).sum().backward()
    trained = [p for p in backbone.parameters() if p.requires_grad]
    assert all(p.grad is not None for p in trained)
    idle = len(list(backbone.parameters())) - len(trained)
    assert (idle > 0) == ("hrnet" in name)


@pytest.mark.parametrize("name", [RESNET, CONVNEXT, MOBILENET])
def test_a_file_of_the_whole_network_is_loaded(name: str, tmp_path: Path) -> None:
    """C5 is what timm's classifier sees; the backbone has other values before."""
    torch.manual_seed(5)
    whole = timm.create_model(name.removeprefix("timm/")).eval()
    torch.save(whole.state_dict(), tmp_path / "whole.pth")
    backbone = TimmBackbone(name, "own", 0, seed=1).eval()
    load_backbone(backbone, tmp_path / "whole.pth")
    with torch.no_grad():
        assert torch.allclose(backbone(IMAGES)[-1], whole.forward_features(IMAGES), atol=1e-5)


def test_a_file_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    torch.save(timm.create_model("resnet10t").state_dict(), tmp_path / "other.pth")
    with pytest.raises(InputError, match=r"other\.pth does not fit this model"):
        load_backbone(TimmBackbone(RESNET, "own", 0), tmp_path / "other.pth")


def test_frozen_batch_norms_are_those_of_evaluation() -> None:
    """Of a network whose norms hold their activation; statistics stay, dtypes too."""
    plain = TimmBackbone(MOBILENET, "own", 0).train()
    plain(IMAGES * 3 + 1)
    frozen = TimmBackbone(MOBILENET, "frozen_batch", 0)
    frozen.body.load_state_dict(plain.body.state_dict())
    before = {key: value.clone() for key, value in frozen.state_dict().items()}
    for level, expected in zip(frozen.train()(IMAGES), plain.eval()(IMAGES), strict=True):
        assert torch.allclose(level, expected, atol=1e-5)
    assert all(torch.equal(value, before[key]) for key, value in frozen.state_dict().items())
    (norm, *_) = [m for m in frozen.modules() if isinstance(m, FrozenBatchNormAct)]
    half = norm(torch.ones(1, norm.weight.numel(), 2, 2, dtype=torch.bfloat16))
    assert half.dtype == torch.bfloat16
    assert not any(isinstance(m, nn.BatchNorm2d) for m in frozen.modules())
    resnet = TimmBackbone(RESNET, "frozen_batch", 0)
    assert any(type(m) is FrozenBatchNorm for m in resnet.modules())


@pytest.mark.parametrize(
    ("name", "frozen", "trained"),
    [
        (RESNET, 0, "conv1"),
        (RESNET, 1, "layer1"),
        (RESNET, 2, "layer2"),
        (RESNET, 4, "layer4"),
        (CONVNEXT, 1, "stages_0"),
        (CONVNEXT, 3, "stages_2"),
        (MOBILENET, 2, "blocks.1"),
        (MOBILENET, 3, "blocks.2"),
        (MOBILENET, 4, "blocks.4"),
    ],
)
def test_stages_freeze_from_the_stem(name: str, frozen: int, trained: str) -> None:
    backbone = TimmBackbone(name, "own", frozen).train()
    names = [key for key, p in backbone.body.named_parameters() if p.requires_grad]
    assert names[0].startswith(f"{trained}.")
    assert all(p.requires_grad for p in backbone.body.get_submodule(trained).parameters())
    before = {key: value.clone() for key, value in backbone.body.state_dict().items()}
    backbone(IMAGES)
    moved = [
        key for key, v in backbone.body.state_dict().items() if not torch.equal(v, before[key])
    ]
    assert not moved or moved[0].startswith(names[0].split(".")[0])


def test_five_frozen_stages_train_nothing() -> None:
    assert not any(p.requires_grad for p in TimmBackbone(MOBILENET, "own", 5).parameters())


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ("name: timm/vit_tiny_patch16_224", "have the strides 16, not 8, 16 and 32"),
        ("name: timm/swin_tiny_patch4_window7_224", r"such as 96 x 64 .*doesn't match model"),
        ("name: timm/test_resnet, norm: group", "norm is group, .*set norm to own"),
        ("name: timm/test_convnext, norm: batch", "has no batch norms: set norm to own"),
        ("name: timm/xception41, frozen_stages: 1", "set it to 0"),
        ("name: timm/test_resnet, norm_eps: 0", "norm_eps is 0, .*leave norm_eps at 1e-5"),
        ("name: timm/resnet50.nothing", "Invalid pretrained tag"),
        ("name: timm/test_resne", r"has no such network; did you mean 'timm/test_resnet'\?"),
        ("name: resnet51", r"found 'resnet51', it should be resnet18, .*did you mean 'resnet50'\?"),
    ],
)
def test_refusals_are_one_sentence_that_names_the_file(
    keys: str, words: str, tmp_path: Path
) -> None:
    file = tmp_path / "mine.yaml"
    defaults = {"norm": "own", "frozen_stages": "0", "weights": "w.pth"}
    more = "".join(f", {k}: {v}" for k, v in defaults.items() if f"{k}:" not in keys)
    file.write_text(f"base: [{HOME}/configs/digits.yaml]\nmodel:\n  backbone: {{{keys}{more}}}\n")
    with pytest.raises(InputError, match=words) as refusal:
        build.load_config(file)
    said = str(refusal.value)
    assert said.startswith(str(file)) and "\n" not in said
    if "found" in said:
        assert said.startswith(f"{file}:3: model.backbone.name: ")


def test_without_timm_the_sentence_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    layout_of.cache_clear()
    monkeypatch.setitem(sys.modules, "timm", None)
    keys = ["model.backbone.name=timm/test_resnet", "model.backbone.norm=own"]
    with pytest.raises(InputError, match=r"name: 'timm/.* needs timm.*pip install timm"):
        build.load_config(HOME / "configs/digits.yaml", keys)
    with pytest.raises(InputError, match="pip install timm"):
        TimmBackbone(RESNET, "own", 0)


def test_pretrained_weights_are_timms(monkeypatch: pytest.MonkeyPatch) -> None:
    """A download that fails, one that does not, and a network of which there is none."""
    create = timm.create_model
    backbone = TimmBackbone(RESNET, "frozen_batch", 2)

    def refuse(*_: object, **options: object) -> nn.Module:
        raise OSError("no route to host\nfor long")

    monkeypatch.setattr(timm, "create_model", refuse)
    with pytest.raises(InputError, match=r"timm \(OSError: no route to host\); .*HF_HOME"):
        load_backbone(backbone, "imagenet")

    def download(*words: object, pretrained: bool, **options: object) -> nn.Module:
        assert pretrained
        made = create(*words, **options)
        made.bn1.weight.data.fill_(0.25)
        return made

    monkeypatch.setattr(timm, "create_model", download)
    load_backbone(backbone, "imagenet")
    assert (backbone.body.bn1.weight == 0.25).all()
    monkeypatch.undo()
    with pytest.raises(InputError, match="no pretrained weights of timm/vovnet39a"):
        load_backbone(TimmBackbone("timm/vovnet39a", "own", 0), "imagenet")


def test_initial_weights_follow_the_seed_and_pixels_timms_mean() -> None:
    """test_convnext was trained on pixels of mean 0.5."""
    keys = [f"model.backbone={{name: {CONVNEXT}, norm: own, weights: null, frozen_stages: 0}}"]

    def state(seed: int) -> dict[str, torch.Tensor]:
        torch.rand(1)
        config = build.load_config(HOME / "configs/digits.yaml", [*keys, f"train.seed={seed}"])
        net = build.model(config, build.class_code(config, 3))
        assert net.mean.flatten().tolist() == [0.5] * 3 == net.std.flatten().tolist()
        return dict(net.state_dict())

    generator = torch.get_rng_state()
    TimmBackbone(RESNET, "own", 0)
    assert torch.equal(torch.get_rng_state(), generator)
    one, again, other = state(0), state(0), state(1)
    assert all(torch.equal(one[key], again[key]) for key in one)
    kernel = "backbone.body.stages_1.blocks.0.mlp.fc1.weight"
    assert not torch.equal(one[kernel], other[kernel])
    assert one[kernel].std().item() == pytest.approx(0.02, rel=0.1)  # timm's, not Kaiming's


def test_synchronized_batch_norms_keep_their_activations() -> None:
    backbone = TimmBackbone(MOBILENET, "batch", 0)
    before = [m for m in backbone.modules() if isinstance(m, BatchNormAct2d)]
    backbone.synchronize()
    after = [m for m in backbone.modules() if isinstance(m, SyncBatchNormAct)]
    assert [type(m.act) for m in after] == [type(m.act) for m in before] and len(after) > 10


def test_a_training_on_a_network_of_timm_from_outside(
    tool: Command,
    tiny: list[str],
    digits: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Stopped and resumed it is the undisturbed run; its checkpoint predicts without the config."""
    file, name = tmp_path / "mine.yaml", "{name: timm/test_resnet, norm: batch, weights: null}"
    file.write_text(f"base: [{HOME}/configs/digits.yaml]\nmodel: {{backbone: {name}}}\n")
    settings = [key for key in tiny if "backbone" not in key]
    words = ["--config", file, "--set", *settings, "schedule.steps=3", "--output"]
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert tool("train", *words, whole).returncode == 0
    after_step = Trainer._after_step

    def stop_after_two(trainer: Trainer) -> None:
        after_step(trainer)
        if trainer.done == 2:
            signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(Trainer, "_after_step", stop_after_two)
    assert tool("train", *words, parts).returncode == 143
    monkeypatch.undo()
    assert last_state(parts)["step"] == 2
    assert "resumed at step 2 of 3" in tool("train", *words, parts, "--resume").stdout
    assert_same_run(whole, parts)
    image = sorted((digits / "val").iterdir())[0]
    (found,) = detector.load(whole, device="cpu").predict([Image.open(image)], score=0)
    assert len(found) == 100 and found.boxes.isfinite().all()
    done = tool("evaluate", "--run", whole)
    assert done.returncode == 0, done.stderr
    more = [f"model.weights={whole}/checkpoints/last.pt"]
    done = tool("train", *words[:-1], *more, "--output", tmp_path / "more")
    assert done.returncode == 0, done.stderr
