"""Backbones: maps, frozen stages, and the files that they load."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from conftest import HOME
from torch import nn
from torchvision.models import mobilenet_v2, regnet_y_400mf, resnet18, resnet34
from torchvision.ops import FrozenBatchNorm2d

from detector import build
from detector.errors import InputError
from detector.model.backbone import BACKBONES, Backbone, FrozenBatchNorm
from detector.model.pretrained import load_backbone

IMAGES = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", BACKBONES)
def test_maps_have_the_declared_strides_and_channels(name: str) -> None:
    with torch.device("meta"):
        maps = Backbone(name, "group", 0)(torch.empty(2, 3, 100, 75))
    backbone = Backbone(name, "group", 0) if name in ("resnet18", "mobilenet_v2") else None
    for index, stride in enumerate(Backbone.strides):
        assert maps[index].shape[-2:] == (math.ceil(100 / stride), math.ceil(75 / stride))
        if backbone is not None:
            assert maps[index].shape[1] == backbone.channels[index]


@pytest.mark.parametrize(
    ("name", "channels"),
    [
        ("resnet34", (128, 256, 512)),
        ("resnext50_32x4d", (512, 1024, 2048)),
        ("mobilenet_v2", (32, 96, 320)),
    ],
)
def test_channels(name: str, channels: tuple[int, int, int]) -> None:
    with torch.device("meta"):
        backbone = Backbone(name, "batch", 0)
        maps = backbone(torch.empty(2, 3, 64, 64))
    assert backbone.channels == channels == tuple(level.shape[1] for level in maps)


def test_resnet_is_torchvisions_up_to_layer4(tmp_path: Path) -> None:
    reference = resnet18(weights=None).eval()
    torch.save(reference.state_dict(), tmp_path / "resnet18.pth")
    backbone = Backbone("resnet18", "frozen_batch", 0)
    load_backbone(backbone, tmp_path / "resnet18.pth")
    maps = backbone(IMAGES)
    scores = reference.fc(reference.avgpool(maps[-1]).flatten(1))
    assert torch.allclose(scores, reference(IMAGES), atol=1e-4)


def test_mobilenet_taps_are_features_6_13_17(tmp_path: Path) -> None:
    reference = mobilenet_v2(weights=None).eval()
    torch.save(reference.state_dict(), tmp_path / "mobilenet.pth")
    backbone = Backbone("mobilenet_v2", "batch", 0).eval()
    load_backbone(backbone, tmp_path / "mobilenet.pth")
    for level, last in zip(backbone(IMAGES), (6, 13, 17), strict=True):
        assert torch.allclose(level, reference.features[: last + 1](IMAGES), atol=1e-6)


@pytest.mark.parametrize("eps", [0.0, 1e-5])
def test_eps_of_frozen_batch_norm(eps: float) -> None:
    """torchvision's published RetinaNet v1 was trained with 0: at small variances it matters."""
    reference = resnet18(weights=None, norm_layer=lambda c: FrozenBatchNorm2d(c, eps=eps))
    reference.bn1.running_var.fill_(1e-5)
    backbone = Backbone("resnet18", "frozen_batch", 0, norm_eps=eps)
    backbone.body.load_state_dict(reference.state_dict(), strict=False)
    stem = backbone.body.get_submodule("bn1")(torch.ones(1, 64, 1, 1))
    assert stem[0, 0].item() == pytest.approx(1 / math.sqrt(1e-5 + eps), rel=1e-4)
    maps = nn.Sequential(*list(reference.children())[:-2])(IMAGES)
    assert torch.allclose(backbone(IMAGES)[-1], maps, rtol=1e-4)


@pytest.mark.parametrize(
    ("name", "frozen", "trained"),
    [
        ("resnet18", 0, "conv1"),
        ("resnet18", 1, "layer1"),
        ("resnet18", 2, "layer2"),
        ("resnet18", 4, "layer4"),
        ("mobilenet_v2", 1, "features.2"),
        ("mobilenet_v2", 2, "features.4"),
        ("mobilenet_v2", 3, "features.7"),
    ],
)
def test_stages_freeze_from_the_stem(name: str, frozen: int, trained: str) -> None:
    backbone = Backbone(name, "group", frozen)
    names = [name for name, p in backbone.body.named_parameters() if p.requires_grad]
    assert names[0].startswith(f"{trained}.")
    assert all(p.requires_grad for p in backbone.body.get_submodule(trained).parameters())


def test_five_frozen_stages_train_nothing() -> None:
    assert not any(p.requires_grad for p in Backbone("resnet18", "batch", 5).parameters())


def test_frozen_batch_norms_keep_their_statistics_in_training() -> None:
    backbone = Backbone("resnet18", "batch", 2).train()
    before = {key: value.clone() for key, value in backbone.body.state_dict().items()}
    assert not any(value.any() for key, value in before.items() if "running_mean" in key)
    backbone(IMAGES)
    moved = {
        key.split(".")[0]
        for key, value in backbone.body.state_dict().items()
        if "running" in key and not torch.equal(value, before[key])
    }
    assert moved == {"layer2", "layer3", "layer4"}


def test_measuring_channels_moves_no_statistics() -> None:
    state = Backbone("resnet18", "batch", 0).body.state_dict()
    assert not any(state[key].any() for key in state if key.endswith(("running_mean", "tracked")))
    assert all((state[key] == 1).all() for key in state if key.endswith("running_var"))


def test_group_norm_of_channels_that_32_does_not_divide() -> None:
    """24 = 12 groups of 2 channels; one channel a group could not stand a map of 1 x 1"""
    block = Backbone("mobilenet_v2", "group", 0).body.get_submodule("features.2.conv.3")
    assert isinstance(block, nn.GroupNorm)
    assert (block.num_groups, block.num_channels) == (12, 24)


def test_unknown_name_and_stage() -> None:
    with pytest.raises(InputError, match="found 'resnet51', it .*did you mean 'resnet50'"):
        Backbone("resnet51", "batch", 0)
    with pytest.raises(InputError, match="frozen_stages is 6"):
        Backbone("resnet18", "batch", 6)


def test_a_file_of_another_network_is_refused_and_nothing_loaded(tmp_path: Path) -> None:
    backbone = Backbone("resnet34", "frozen_batch", 0)
    before = backbone.body.get_submodule("conv1").weight.clone()
    torch.save(resnet18(weights=None).state_dict(), tmp_path / "a.pth")
    with pytest.raises(InputError, match=r"a\.pth does not fit.* missing \(first: layer1\.2\."):
        load_backbone(backbone, tmp_path / "a.pth")
    assert torch.equal(before, backbone.body.get_submodule("conv1").weight)
    torch.save(resnet34(weights=None).state_dict() | {"extra": torch.ones(1)}, tmp_path / "b.pth")
    with pytest.raises(InputError, match=r"1 unexpected \(first: extra\)"):
        load_backbone(backbone, tmp_path / "b.pth")


def test_batch_norm_weights_do_not_go_into_group_norm(tmp_path: Path) -> None:
    torch.save(resnet18(weights=None).state_dict(), tmp_path / "a.pth")
    with pytest.raises(InputError, match="norm group cannot take"):
        load_backbone(Backbone("resnet18", "group", 0), tmp_path / "a.pth")


def test_files_that_hold_no_weights(tmp_path: Path) -> None:
    backbone = Backbone("resnet18", "batch", 0)
    with pytest.raises(InputError, match="no weights file"):
        load_backbone(backbone, tmp_path / "missing.pth")
    (tmp_path / "text.pth").write_text("hello")
    with pytest.raises(InputError, match=r"text\.pth cannot be read"):
        load_backbone(backbone, tmp_path / "text.pth")
    torch.save({"model": {}, "epoch": 3}, tmp_path / "run.pth")
    with pytest.raises(InputError, match="holds no state dict"):
        load_backbone(backbone, tmp_path / "run.pth")


def test_imagenet_weights_come_from_torch_home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    state = mobilenet_v2(weights=None).state_dict()
    torch.save(state, folder / "mobilenet_v2-b0353104.pth")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    backbone = Backbone("mobilenet_v2", "frozen_batch", 2)
    load_backbone(backbone, "imagenet")
    loaded = backbone.body.get_submodule("features.17.conv.2").weight
    assert torch.equal(loaded, state["features.17.conv.2.weight"])


def test_without_a_network_the_message_says_where_to_put_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError("no route to host")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(torch.hub, "urlopen", refuse)
    place = tmp_path / "hub" / "checkpoints" / "resnet18-f37072fd.pth"
    with pytest.raises(InputError, match=f"{place}.*no route to host.*TORCH_HOME"):
        load_backbone(Backbone("resnet18", "frozen_batch", 0), "imagenet")


def test_frozen_batch_norm_keeps_the_dtype_that_autocast_chose() -> None:
    norm = FrozenBatchNorm(3)
    assert norm(torch.ones(1, 3, 2, 2, dtype=torch.bfloat16)).dtype == torch.bfloat16


def test_a_line_of_the_table_is_all_that_another_backbone_takes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Named in a config, cut, its channels found, its stages frozen, torchvision's file loaded."""
    stages = (("stem",), *((f"trunk_output.block{k}",) for k in (1, 2, 3, 4)))
    monkeypatch.setitem(BACKBONES, "regnet_y_400mf", stages)
    reference = regnet_y_400mf(weights=None).eval()
    torch.save(reference.state_dict(), tmp_path / "regnet.pth")
    name = f"name: regnet_y_400mf, weights: {tmp_path}/regnet.pth, frozen_stages: 2"
    keys = [f"model.backbone={{{name}, norm: frozen_batch}}"]
    config = build.load_config(HOME / "configs/digits.yaml", keys)
    backbone = build.model(config, build.class_code(config, 3)).backbone.eval()
    load_backbone(backbone, tmp_path / "regnet.pth")
    assert backbone.channels == (104, 208, 440)
    expected = reference.trunk_output(reference.stem(IMAGES))
    assert torch.allclose(backbone(IMAGES)[-1], expected, atol=1e-5)
    names = [name for name, p in backbone.body.named_parameters() if p.requires_grad]
    assert names[0].startswith("trunk_output.block2.")


def test_a_file_of_code_is_refused_without_advice_to_run_it(tmp_path: Path) -> None:
    torch.save({"fc.weight": Path("x")}, tmp_path / "a.pth")
    with pytest.raises(InputError, match="a.pth cannot be read as a file of weights") as refusal:
        load_backbone(Backbone("resnet18", "batch", 0), tmp_path / "a.pth")
    assert "weights_only" not in str(refusal.value)


def test_a_whole_backbone_rests_until_it_is_trained_again() -> None:
    """Neither weights nor statistics move, twice asked or not; frozen stages stay frozen after."""
    backbone = Backbone("mobilenet_v2", "batch", 1)
    trained = [name for name, p in backbone.named_parameters() if p.requires_grad]
    for _ in range(2):
        backbone.freeze_all()
        backbone.train()
    before = {name: value.clone() for name, value in backbone.state_dict().items()}
    assert not any(level.requires_grad for level in backbone(torch.rand(2, 3, 64, 96)))
    assert all(torch.equal(before[name], value) for name, value in backbone.state_dict().items())
    backbone.unfreeze()
    backbone.train()
    assert [name for name, p in backbone.named_parameters() if p.requires_grad] == trained != []
    backbone(torch.rand(2, 3, 64, 96))
    moved = [name for name, value in backbone.state_dict().items()
             if not torch.equal(before[name], value)]  # fmt: skip
    assert any(name.endswith("running_mean") for name in moved)
    assert not any(name.startswith(("body.features.0.", "body.features.1.")) for name in moved)
