"""The dense classification loss of every anchor, in bounded memory.

N images, A anchors of one image, G boxes (padded), K classes, C channels.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch._dynamo.exc import TorchDynamoException

from detector.anchors.class_code import ClassCode, Terms
from detector.loss.elementwise import ElementwiseLoss
from detector.loss.sampling import Sampler
from detector.structures import IGNORED, Targets

# Logits handled at a time. On a CPU the dozen temporaries of one chunk should stay in the cache
# (2**16 and 2**19 measure a fifth slower than 2**17). On a GPU a chunk has some 37 kernels, and
# launching one takes the host as long as the device needs for millions of logits.
CPU_CHUNK = 2**17
GPU_CHUNK = 2**24
# Logits from which a GPU compiles the formula. At 258 million (16 images of COCO) that takes 21 of
# the step's 127 ms. Compiling takes some 15 s for the first size of images, and again for the
# second and third, which it takes as a sign that sizes vary.
COMPILED_FROM = 2**24


@dataclass(frozen=True)
class _RowTargets:
    """Targets of M anchors as indices into a label table: the (M, K) labels are never built."""

    table: Tensor  # bool (N * G + 1, K); the last row is "no label"
    label_index: Tensor  # int64 (M,) into table
    trained: Tensor  # bool (M,)
    quality: Tensor | None  # (M, 1), where the element-wise loss reads it

    @staticmethod
    def of(
        matches: Tensor, labels: Tensor, quality: Tensor | None = None, *, code: ClassCode
    ) -> _RowTargets:
        images, boxes, classes = labels.shape
        first = torch.arange(images, device=matches.device)[:, None] * boxes
        return _RowTargets(
            table=F.pad(labels.reshape(images * boxes, classes), (0, 0, 0, 1)),
            label_index=torch.where(matches >= 0, first + matches, images * boxes).flatten(),
            trained=trainable(matches, code=code).flatten(),
            quality=None if quality is None else quality.reshape(-1, 1),
        )

    def terms(self, logits: Tensor, rows: slice, *, code: ClassCode) -> Terms:
        """Of the logits (R, C) of some of the rows."""
        quality = None if self.quality is None else self.quality[rows]
        return code.terms(logits, self.table.index_select(0, self.label_index[rows]), quality)

    def summed(self, costs: Tensor, rows: slice) -> Tensor:
        """Costs (R, T) of the terms of some rows -> (R,), 0 and no gradient where not trained."""
        return torch.where(self.trained[rows], costs.sum(-1), 0.0)


class _ChunkedLoss(torch.autograd.Function):
    """The plain formula chunk by chunk, differentiated at once, keeping only the gradient.

    Autograd over the whole would keep every intermediate; this keeps one tensor like the logits.
    """

    @staticmethod
    def forward(
        ctx: Any,
        logits: Tensor,
        targets: _RowTargets,
        code: ClassCode,
        elementwise: ElementwiseLoss,
    ) -> Tensor:
        wide = torch.promote_types(logits.dtype, torch.float32)
        losses = torch.empty(len(logits), dtype=wide, device=logits.device)
        # A float16 gradient of an easy anchor underflows before the loss scale has multiplied it.
        narrow = wide if logits.dtype == torch.float16 else logits.dtype
        gradient = torch.empty_like(logits, dtype=narrow)
        for rows in _chunks(logits):
            chunk = logits[rows].detach().to(wide).requires_grad_()
            with torch.enable_grad():
                loss = targets.summed(elementwise(targets.terms(chunk, rows, code=code)), rows)
            losses[rows] = loss.detach()
            gradient[rows] = torch.autograd.grad(loss, chunk, torch.ones_like(loss))[0]
        ctx.save_for_backward(gradient)
        ctx.dtype = logits.dtype
        return losses

    @staticmethod
    def backward(ctx: Any, incoming: Tensor) -> tuple[Tensor, None, None, None]:
        (gradient,) = ctx.saved_tensors
        scaled = torch.empty_like(gradient, dtype=ctx.dtype)
        for rows in _chunks(gradient):
            torch.mul(gradient[rows], incoming[rows, None], out=scaled[rows])
        return scaled, None, None, None


def _chunks(logits: Tensor) -> Iterator[slice]:
    """Slices of the rows of logits (M, C)."""
    size = CPU_CHUNK if logits.device.type == "cpu" else GPU_CHUNK
    step = max(1, size // logits.shape[1])
    return (slice(start, start + step) for start in range(0, len(logits), step))


def trainable(matches: Tensor, *, code: ClassCode) -> Tensor:
    """Matches (N, A) -> bool (N, A): anchors that have a classification loss under the code."""
    return matches != IGNORED if code.trains_background else matches >= 0


def terms_in_parts(
    logits: Tensor, matches: Tensor, labels: Tensor, *, code: ClassCode
) -> Iterator[tuple[Terms, Tensor]]:
    """The terms of M rows at a time, and which of these rows are `trainable`: bool (M,).

    Without gradient; arguments as of `per_anchor_loss`. A term's quality is not there.
    """
    targets = _RowTargets.of(matches, labels, code=code)
    flat = logits.detach().reshape(-1, logits.shape[-1])
    for rows in _chunks(flat):
        yield targets.terms(flat[rows], rows, code=code), targets.trained[rows]


def per_anchor_loss(
    logits: Tensor,
    matches: Tensor,
    labels: Tensor,
    quality: Tensor | None = None,
    *,
    code: ClassCode,
    elementwise: ElementwiseLoss,
) -> Tensor:
    """The loss of every anchor, summed over its terms; differentiable once, in the logits.

    Equal to `elementwise(code.terms(logits, rows)).sum(-1)` with the label row of each anchor's
    box, but keeps no more for backward than one tensor of the size of the logits. Many logits on a
    GPU go through torch.compile, which fuses that formula; where that fails, a warning says so
    once.

    Args:
        logits: (N, A, C), any float dtype; the arithmetic is at least float32.
        matches: int64 (N, A), index of a box, BACKGROUND or IGNORED.
        labels: bool (N, G, K), multi-hot.
        quality: (N, A) in 0..1, 1 off the foreground, detached; only where the loss reads it.

    Returns:
        (N, A), at least float32, exactly 0 where the anchor is not `trainable`.
    """
    if not torch.compiler.is_compiling() and _worth_compiling(logits):
        whole = partial(_compiled(), code=code, elementwise=elementwise)
        try:
            return whole(logits, matches, labels, quality)
        except TorchDynamoException as error:  # there is no C compiler, or no Triton
            _compile_errors.append(str(error).splitlines()[0])
            message = f"The classification loss stays uncompiled: {_compile_errors[0]}"
            warnings.warn(message, stacklevel=2)
    targets = _RowTargets.of(matches, labels, quality, code=code)
    flat = logits.reshape(-1, logits.shape[-1])
    if torch.compiler.is_compiling():
        everything = slice(None)
        terms = targets.terms(flat, everything, code=code)
        return targets.summed(elementwise(terms), everything).view_as(matches)
    if flat.requires_grad and torch.is_grad_enabled():
        return _ChunkedLoss.apply(flat, targets, code, elementwise).view_as(matches)
    losses = [
        targets.summed(elementwise(targets.terms(flat[rows], rows, code=code)), rows)
        for rows in _chunks(flat)
    ]
    return torch.cat(losses).view_as(matches)


def _worth_compiling(logits: Tensor) -> bool:
    many = logits.device.type == "cuda" and logits.numel() >= COMPILED_FROM
    return many and not _compile_errors


@cache
def _compiled() -> Callable[..., Tensor]:
    """Made on demand: torch.compile imports for seconds what most commands never need."""
    return torch.compile(per_anchor_loss)


_compile_errors: list[str] = []  # after one, this process compiles no more


class ClassificationLoss(nn.Module):
    """What an anchor's logits mean, what each term costs, and which anchors count."""

    def __init__(self, *, code: ClassCode, elementwise: ElementwiseLoss, sampler: Sampler) -> None:
        super().__init__()
        self.code = code
        self.elementwise = elementwise
        self.sampler = sampler

    def forward(self, logits: Tensor, targets: Targets, quality: Tensor | None = None) -> Tensor:
        """Logits (N, A, C) -> losses (N, A), 0 for anchors that do not count; not yet divided.

        quality: as of `per_anchor_loss`.
        """
        matches, labels, code = targets.matches, targets.labels, self.code
        if torch.is_grad_enabled():  # a validation loss should move nothing
            self.elementwise.observe(lambda: terms_in_parts(logits, matches, labels, code=code))
        losses = per_anchor_loss(
            logits, matches, labels, quality, code=code, elementwise=self.elementwise
        )
        allowed = trainable(matches, code=code)
        return losses * self.sampler.weights(losses.detach(), targets, allowed)

    def counts(self, targets: Targets) -> Tensor:
        """int64 (N,): how many anchors of each image will count."""
        return self.sampler.counts(targets, trainable(targets.matches, code=self.code))
