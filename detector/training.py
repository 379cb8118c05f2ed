"""All objects of one training, made from its config."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from detector import build
from detector.anchors.class_code import ClassCode
from detector.anchors.generator import AUTO
from detector.anchors.proposal import propose_anchors
from detector.config import Config
from detector.data.coco import CocoIndex
from detector.data.loader import DetectionDataset, StepLoader, train_loader
from detector.distributed import barrier, is_main, rank, together, world_size
from detector.engine import preflight, run
from detector.engine.logger import Logger, Loggers, RunLogger, logger_classes
from detector.engine.optim import EMA
from detector.engine.own_pieces import check_own_pieces
from detector.engine.restore import (
    Classes,
    check_classes,
    check_resumed_data,
    check_resumed_state,
    data_identity,
)
from detector.engine.step import TrainingStep
from detector.engine.train import Pace, Trainer
from detector.errors import InputError
from detector.model.retinanet import FPN, RetinaNet
from detector.structures import Batch
from detector.trained import check_class_of, describe_validation, evaluator, load_pretrained


class Assembly:
    """All objects of one run. Everything that can be wrong is found before a file is written."""

    def __init__(
        self,
        config: Config,
        output: Path,
        on: torch.device,
        state: dict[str, Any] | None = None,  # to resume from
    ) -> None:
        self.state = state
        self.output = output
        self.device = on
        self.index = build.data_index(config, "train")
        self.config = config = with_anchors(config, self.index)
        self.classes = Classes.of(self.index)
        self.loggers = logger_classes(config.train.loggers)
        self.code = build.class_code(config, len(self.classes))
        self.validation = self._validation_index()
        self.dataset = DetectionDataset(self.index, build.transform(config), config.train.seed)
        # by the loader, because it refuses batches that the ranks cannot share
        self.steps_per_epoch = len(self.load(0, 0, workers=0))
        self.schedule = build.schedule(config, self.steps_per_epoch)
        self._check_frozen_epochs()
        self.net = build.model(config, self.code)
        self.transfer = (
            None if state else load_pretrained(config, self.net, self.code, self.classes)
        )
        boxes_per_class = torch.from_numpy(self.index.boxes_per_class)
        self.step = training_step(config, self.code, self.net, on, boxes_per_class)
        self._check_resources()
        self.validate = None
        if self.validation is not None:
            self.validate = evaluator(config, self.validation, self.code, on, self.step.criterion)

    def begin(self, command: Sequence[str], changes: Sequence[str]) -> Trainer:
        """Write the run directory and say what was found; what trains from the state on."""
        state, total = self.state, self.schedule.total_steps
        findings = [f"{self.output}: a new run of {total} steps"]
        with together():
            if is_main() and state is None:
                findings += [*self._findings(), *self._copied()]
                weights = None if self.transfer is None else asdict(self.transfer)
                run.create(self.output, self.config.to_yaml(), command, weights)
        trainer = self._trainer(self._logger())
        if state is not None:
            trainer.restore(state)
            findings = [f"{self.output}: resumed at step {state['step']} of {total}.", *changes]
            if is_main():
                run.note_resumption(self.output, command, state["step"])
        trainer.logger.say("\n".join(findings))
        return trainer

    def changes(self) -> list[str]:
        """What a resumed run says of its data; InputError where it cannot go on from the state."""
        if self.state is None:
            return []
        path = run.checkpoint_file(self.output, "last")
        changes = check_resumed_data(self.state, path, self.index, self.validation)
        total = self.schedule.total_steps
        check_resumed_state(self.state, path, self.step, total_steps=total)
        return changes

    def _check_frozen_epochs(self) -> None:
        epochs, total = self.config.model.backbone.frozen_epochs, self.schedule.total_steps
        steps = epochs * self.steps_per_epoch
        if steps and steps >= total:
            raise InputError(
                f"model.backbone.frozen_epochs is {epochs}, that is {steps} steps, and the "
                f"schedule ends at step {total}: lower it, or set frozen_stages to 5, which never "
                "trains the backbone."
            )

    def _copied(self) -> Iterable[str]:
        if self.transfer is not None:
            yield f"weights of {self.config.model.weights}:\n{self.transfer}"

    def _check_resources(self) -> None:
        config, sizes, resize = self.config, self.index.sizes, self.dataset.transform.resize
        images = config.train.batch_size // config.optimizer.accumulate
        own = images // world_size()
        # on GPUs one batch norm sees the images of all ranks together
        normalized = images if self.device.type == "cuda" else own
        preflight.check_batch_norm(self.net, sizes, resize, images=normalized)
        # training and validation load in turn, on as many processes as torchrun started here
        validated = 0 if self.validation is None else config.evaluation.batch_size
        preflight.check_worker_resources(
            sizes,
            resize,
            workers=config.data.workers,
            batch_size=max(own, validated),
            processes=int(os.environ.get("LOCAL_WORLD_SIZE", "1")),
        )

    def _validation_index(self) -> CocoIndex | None:
        data = self.config.data
        if data.tuning is None and data.val.annotations is None and data.val.images is None:
            return None
        index = build.data_index(self.config, "val")
        check_classes(self.classes, index)
        check_class_of(self.config.evaluation.best, index, "evaluation.best")
        return index

    def load(self, epoch: int, skip: int, *, workers: int) -> StepLoader:
        """The steps of an epoch from step `skip` on, each the micro-batches of this rank."""
        return train_loader(
            self.dataset,
            batch_size=self.config.train.batch_size,
            epoch=epoch,
            accumulate=self.config.optimizer.accumulate,
            rank=rank(),
            world_size=world_size(),
            skip_steps=skip,
            workers=workers,
            pin_memory=self.device.type == "cuda",
            group_by_aspect=self.config.data.group_by_aspect,
        )

    def _trainer(self, logger: Logger) -> Trainer:
        return Trainer(
            step=self.step,
            schedule=self.schedule,
            load_epoch=partial(self.load, workers=self.config.data.workers),
            validate=self.validate,
            logger=logger,
            run=self.output,
            pace=Pace(
                steps_per_epoch=self.steps_per_epoch,
                log_every=self.config.train.log_every,
                validate_every=self.config.evaluation.every,
                save_every=self.config.train.checkpoint_every,
            ),
            best=self.config.evaluation.best,
            identity={
                "config": self.config.to_yaml(),
                "class_names": self.classes.names,
                "category_ids": self.classes.category_ids,
                "data": data_identity(self.index, self.validation),
            },
            begin_epoch=self._begin_epoch,
            file_name=lambda i: str(self.index.file_names[self.index.image_ids == i][0]),
        )

    def _begin_epoch(self, epoch: int) -> None:
        """Freeze or train the backbone, as model.backbone.frozen_epochs says."""
        backbone, frozen_epochs = self.net.backbone, self.config.model.backbone.frozen_epochs
        if not frozen_epochs:
            return
        before = backbone.all_frozen
        if epoch < frozen_epochs:
            backbone.freeze_all()
        else:
            backbone.unfreeze()
        if backbone.all_frozen != before:
            # DDP waits for the gradients of all parameters that wanted one when it was made
            self.step.model = _spread(self.net, self.device)

    def _logger(self) -> Logger:
        barrier()
        if not is_main():
            return Logger()
        position, step = (self.state["journal"], self.state["step"]) if self.state else (0, 0)
        total = self.schedule.total_steps
        own = RunLogger(self.output, total_steps=total, position=position, step=step)
        return Loggers(own, self.loggers, run=self.output, step=step)

    def _findings(self) -> Iterable[str]:
        config, anchor_generator = self.config, self.step.anchor_generator
        yield preflight.describe_data("train", self.index)
        if self.validation is not None and self.validate is not None:
            yield from describe_validation(self.validation, self.validate)
        same_place = preflight.describe_coinciding_boxes(
            self.index, multi_label=self.code.multi_label
        )
        if same_place is not None:
            yield same_place
        batches = [b.to(self.device) for b in next(iter(self.load(0, 0, workers=0)))]
        check_own_pieces(self.step, batches[0])
        yield preflight.describe_anchors(anchor_generator, *batches[0].images.shape[-2:])
        foreground = preflight.reached_from(config.matching)
        hit, boxes = preflight.count_reachable_boxes(
            self.index,
            self.dataset.transform.resize,
            # the run's own would keep the anchors of every image size
            build.anchor_generator(config),
            foreground=foreground,
        )
        yield (
            f"anchors reach {hit} of {boxes} boxes ({hit / max(1, boxes):.1%}) at IoU {foreground}"
        )
        yield (
            f"learning rate {self.schedule.rate:g} for batches of {config.train.batch_size}, "
            f"{self.schedule.total_steps} steps of {self.steps_per_epoch} an epoch, "
            f"{build.precision(config, self.device)} on {self.device} x {world_size()}"
        )
        yield self._initial_loss(batches)

    def _initial_loss(self, batches: list[Batch]) -> str:
        expected, measured = preflight.initial_loss(self.step, self.net, batches)
        source = "zero biases" if self.code.prior is None else "the prior"
        if self.step.criterion.classification.elementwise.reads_quality:
            source += ", were each predicted box its anchor"
        return (
            f"initial classification loss: {measured:.4f} measured, {expected:.4f} expected from "
            f"{source}"
        )


def with_anchors(config: Config, index: CocoIndex) -> Config:
    """The config with numbers in place of `anchors: auto`, from the boxes that are trained on.

    They come from these boxes and data.resize alone, so all ranks have the same.
    """
    if config.anchors != AUTO:
        return config
    sides = preflight.resized_sides(index, config.data.resize.resize())
    return config.model_copy(update={"anchors": propose_anchors(sides, FPN.strides)})


def training_step(
    config: Config,
    code: ClassCode,
    net: RetinaNet,
    on: torch.device,
    boxes_per_class: torch.Tensor | None = None,
) -> TrainingStep:
    """What trains `net`, which moves to the device `on` and is spread over the ranks."""
    net, criterion = net.to(on), build.criterion(config, code, boxes_per_class).to(on)
    dtype, ema = build.precision(config, on), config.train.ema
    average = EMA(net, ema) if ema else None
    if config.train.compile:
        net.compile()
        criterion.compile()
    if world_size() > 1 and on.type == "cuda":
        net.backbone.synchronize()  # nothing else has batch norms
    return TrainingStep(
        model=_spread(net, on),
        criterion=criterion,
        matcher=build.matcher(config),
        anchor_generator=build.anchor_generator(config),
        optimizer=build.optimizer(config, net),
        scaler=torch.amp.GradScaler(on.type, enabled=dtype is torch.float16),
        autocast=build.autocast(dtype, on),
        clip_norm=config.optimizer.clip_norm,
        ema=average,
        diagnose_every=config.train.diagnose_every,
    )


def _spread(net: RetinaNet, on: torch.device) -> nn.Module:
    if world_size() == 1:
        return net
    return DistributedDataParallel(net, device_ids=[on] if on.type == "cuda" else None)
