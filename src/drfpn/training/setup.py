"""Setup of a run: model, optimizer, data loader and loggers, at its start or where it was stopped."""

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.amp.grad_scaler import GradScaler
from torch.nn.parallel import DistributedDataParallel
from torch.optim import SGD, AdamW, Optimizer
from torch.optim.swa_utils import AveragedModel
from torch.utils.data import DataLoader

from drfpn.data import DetectionDataset
from drfpn.data.augment.presets import PRESETS, make_transform
from drfpn.data.augment.transformed_dataset import TransformedDataset, collate
from drfpn.data.base import Target
from drfpn.data.workers import init_worker
from drfpn.detectors.transform import Transform
from drfpn.training.checkpoint import Card
from drfpn.training.config import RunConfig
from drfpn.training.divergence import DivergenceMonitor
from drfpn.training.interrupt import InterruptHandler
from drfpn.training.loggers import RunLogger
from drfpn.training.sampler import SeededSampler, StepBatchSampler
from drfpn.training.schedule import lr_factor
from drfpn.training.skipped_images import SkippedImages
from drfpn.training.state import TrainingState
from drfpn.training.warm_start import build_initial_detector
from drfpn.utils import distributed
from drfpn.utils.errors import Interrupted
from drfpn.utils.io import write_atomically

logger = logging.getLogger(__name__)


@dataclass
class Run:
    """Everything that the training loop works with."""

    config: RunConfig
    state: TrainingState
    model: nn.Module
    """``state.model``, wrapped in ``DistributedDataParallel`` if there are several processes."""
    loader: DataLoader[Any]
    batch_sampler: StepBatchSampler
    learning_rate: Callable[[int], float]
    """Learning rate as a function of the step."""
    device: torch.device
    out: Path
    """The run folder."""
    interrupt: InterruptHandler
    skipped_images: SkippedImages
    monitor: DivergenceMonitor
    run_logger: RunLogger | None
    """Loggers of rank 0; ``None`` on other ranks."""

    def is_finished(self) -> bool:
        """Return whether all epochs are done, or ``patience`` evaluations in a row were no better than the best."""
        patience = self.config.patience
        return self.state.epoch >= self.config.epochs or (patience is not None and self.state.stale >= patience)

    def save(self) -> None:
        """Write ``state.pt``."""
        self.state.save(self.out / "state.pt")

    def stop_if(self, signal_number: int) -> None:
        """Save the state and stop if a signal was received.

        Args:
            signal_number: number of the signal; 0 if there was none.

        Raises:
            Interrupted: a signal was received.
        """
        if signal_number:
            self.save()
            raise Interrupted(signal_number)


def build_run(
    card: Card,
    train_set: DetectionDataset,
    out: Path,
    device: torch.device,
    interrupt: InterruptHandler,
    *,
    resume: bool,
) -> Run:
    """Build a run at its start, or where it was stopped.

    Args:
        card: card of the run.
        train_set: images to train on.
        out: the run folder.
        device: device to train on.
        interrupt: handler of SIGINT and SIGTERM.
        resume: restore the state in ``out``.

    Raises:
        UserError: initial weights, state or loggers that cannot be used.
    """
    config = card.config
    torch.manual_seed(config.seed)
    model, message = build_initial_detector(card, resume=resume)
    if message is not None:
        logger.info("%s", message)
    model = model.to(device, memory_format=torch.channels_last)
    model.transform.resize_in_training = not PRESETS[config.transforms].resizes
    state = TrainingState(
        model,
        make_optimizer(model, config),
        GradScaler(device.type, enabled=config.amp == "fp16"),
        None if config.ema is None else AveragedModel(model, use_buffers=True),
    )
    loader, batch_sampler = make_loader(train_set, config, device)
    if resume:
        state.restore(out / "state.pt")
        logger.info("resuming after %d epochs, at step %d", state.epoch, state.step)
    main_process = distributed.rank() == 0
    if main_process and not resume:
        write_atomically(out / "config.yaml", config.to_yaml().encode())
    wrapped = model
    if distributed.world_size() > 1:
        wrapped = DistributedDataParallel(model, device_ids=[device.index] if device.type == "cuda" else None)
    return Run(
        config=config,
        state=state,
        model=wrapped,
        loader=loader,
        batch_sampler=batch_sampler,
        learning_rate=make_lr_schedule(config, batch_sampler.steps_per_epoch),
        device=device,
        out=out,
        interrupt=interrupt,
        skipped_images=SkippedImages(out, train_set),
        monitor=DivergenceMonitor(model, config),
        run_logger=RunLogger(out, config, state.step, state.epoch) if main_process else None,
    )


def make_optimizer(model: nn.Module, config: RunConfig) -> Optimizer:
    """Return the optimizer of the trainable parameters.

    Args:
        model: the detector.
        config: settings of the run.
    """
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if config.optimizer == "adamw":
        return AdamW(parameters, lr=config.lr, weight_decay=config.weight_decay)
    return SGD(parameters, lr=config.lr, momentum=config.momentum, weight_decay=config.weight_decay)


def make_loader(
    dataset: DetectionDataset, config: RunConfig, device: torch.device
) -> tuple[DataLoader[Any], StepBatchSampler]:
    """Return the data loader of this process, and its batch sampler, which is to be told the epoch.

    Args:
        dataset: images to train on.
        config: settings of the run.
        device: device to train on.
    """
    batch_sampler = StepBatchSampler(
        SeededSampler(len(dataset), config.seed),
        config.batch_size,
        grad_accum_steps=config.grad_accum_steps,
        rank=distributed.rank(),
        world_size=distributed.world_size(),
    )
    loader: DataLoader[Any] = DataLoader(
        make_training_dataset(dataset, config),
        batch_sampler=batch_sampler,
        num_workers=config.workers,
        collate_fn=collate,
        worker_init_fn=init_worker,
        pin_memory=device.type == "cuda",
        persistent_workers=config.workers > 0,
        generator=torch.Generator(),  # not the global one: how often a loader draws depends on its workers
    )
    return loader, batch_sampler


def make_training_dataset(dataset: DetectionDataset, config: RunConfig) -> TransformedDataset:
    """Return a data set with the augmentation of a run.

    Args:
        dataset: images to train on.
        config: settings of the run.
    """
    preset = config.transforms
    sizes = {"min_size": config.min_size, "max_size": config.max_size, "tile": config.train_tile}
    transform = make_transform(preset, hflip_prob=config.hflip_prob, **sizes)
    return TransformedDataset(dataset, transform, copy_paste=PRESETS[preset].copy_paste, on_bad=config.on_bad)


def iterate_first_batch(dataset: DetectionDataset, config: RunConfig) -> Iterator[tuple[Tensor, Target]]:
    """Yield the images and targets of the first step of a run, augmented, resized and padded, but not normalized.

    Args:
        dataset: images to train on.
        config: settings of the run.

    Yields:
        Image (3, H, W) in [0, 1] and its target.
    """
    augmented = make_training_dataset(dataset, config)
    keys = list(SeededSampler(len(dataset), config.seed))[: config.batch_size]
    samples = [augmented[key] for key in keys]
    transform = Transform(config.min_size, config.max_size, [0.0] * 3, [1.0] * 3).train()
    transform.resize_in_training = not PRESETS[config.transforms].resizes
    batch, targets = transform([sample.image for sample in samples], [sample.target for sample in samples])
    yield from zip(batch.tensors, targets, strict=True)


def make_lr_schedule(config: RunConfig, steps_per_epoch: int) -> Callable[[int], float]:
    """Return the learning rate as a function of the step, and log it.

    Args:
        config: settings of the run.
        steps_per_epoch: optimizer steps of an epoch.
    """
    warmup = min(config.warmup_steps, steps_per_epoch * config.epochs // 4)
    decay = f"/10 after epochs {config.milestones}" if config.lr_schedule == "step" else "cosine decay"
    logger.info(
        f"learning rate {config.lr:g} ({config.base_lr:g} for a batch of 16, here {config.batch_size}), "
        f"{config.epochs} epochs of {steps_per_epoch} steps, warm-up {warmup} steps, {decay}"
    )
    options: dict[str, Any] = {"epochs": config.epochs, "milestones": config.milestones}
    options |= {"schedule": config.lr_schedule, "steps_per_epoch": steps_per_epoch, "warmup_steps": warmup}
    return lambda step: config.lr * lr_factor(step, **options)
