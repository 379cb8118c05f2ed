"""Any backbone by its name: torchvision's (backbone.py) or timm's (timm_backbone.py)."""

from __future__ import annotations

from detector.model.backbone import Backbone, Norm, check_torchvision_name
from detector.model.timm_backbone import TimmBackbone, check_setup
from detector.model.timm_layout import check_timm_name, is_timm

AnyBackbone = Backbone | TimmBackbone


def check_name(name: str) -> None:
    """ValueError, in the words of a config's errors, where there is no backbone of the name."""
    if is_timm(name):
        check_timm_name(name)
    else:
        check_torchvision_name(name)


def check(name: str, norm: Norm, frozen_stages: int, norm_eps: float) -> None:
    """InputError for a network of timm that cannot be a backbone, or not with these settings."""
    if is_timm(name):
        check_setup(name, norm, frozen_stages, norm_eps)


def make(name: str, norm: Norm, frozen_stages: int, *, norm_eps: float, seed: int) -> AnyBackbone:
    """The network; `seed` draws the initial weights of timm's. InputError as of both classes."""
    if is_timm(name):
        return TimmBackbone(name, norm, frozen_stages, norm_eps=norm_eps, seed=seed)
    return Backbone(name, norm, frozen_stages, norm_eps=norm_eps)
