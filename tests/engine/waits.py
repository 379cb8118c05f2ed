"""What makes the host wait for a device, seen on the CPU."""

from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

WAITING = {
    "_local_scalar_dense",
    "_unique2",
    "equal",
    "is_nonzero",
    "masked_select",
    "nms",
    "nonzero",
    "repeat_interleave",
    "unique_consecutive",
    "unique_dim",
}


class Waits(TorchDispatchMode):
    """Notes every operation that makes the host wait or whose result's shape depends on data."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        name = function.name().split("::")[-1].split(".")[0]
        indices = args[1] if name in {"index", "index_put", "index_put_"} else []
        by_mask = any(i is not None and i.dtype in {torch.bool, torch.uint8} for i in indices)
        if name in WAITING or by_mask:
            self.found.append(name)
        return function(*args, **(kwargs or {}))
