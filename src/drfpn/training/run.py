"""What the steps of a run work with, and how it is built at the start or where the run stopped."""

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
from drfpn.data.augment.transforms import TransformedDataset, collate
from drfpn.data.base import Target
from drfpn.data.workers import begin_worker
from drfpn.detectors.transform import Transform
from drfpn.training.checkpoint import Card
from drfpn.training.config import RunConfig
from drfpn.training.divergence import DivergenceWatch
from drfpn.training.interrupt import Interrupted, Interruption
from drfpn.training.loggers import Log
from drfpn.training.sampler import SeededSampler, StepBatches
from drfpn.training.schedule import lr_factor
from drfpn.training.skipped_images import Skips
from drfpn.training.state import TrainingState
from drfpn.training.warm_start import built_to_begin
from drfpn.utils import distributed
from drfpn.utils.console import say
from drfpn.utils.io import write_atomically


@dataclass
class Run:
    """What the steps of a run work with."""

    config: RunConfig
    state: TrainingState
    model: nn.Module
    """``state.model``, or what shares its gradients between processes."""
    loader: DataLoader[Any]
    batches: StepBatches
    learning_rate: Callable[[int], float]
    device: torch.device
    out: Path
    interruption: Interruption
    skips: Skips
    watch: DivergenceWatch
    log: Log | None
    """Of the first process."""

    def save(self) -> None:
        """Write ``state.pt``."""
        self.state.save(self.out / "state.pt")

    def stop(self, number: int) -> None:
        """Save and stop if a signal asked for it."""
        if number:
            self.save()
            raise Interrupted(number)


def start_run(
    card: Card,
    train_set: DetectionDataset,
    out: Path,
    device: torch.device,
    interruption: Interruption,
    *,
    resume: bool,
) -> Run:
    """Build what a run needs, at its start or where it stopped."""
    config = card.config
    torch.manual_seed(config.seed)
    model, said = built_to_begin(card, resume=resume)
    if said is not None:
        say(said)
    model = model.to(device, memory_format=torch.channels_last)
    model.transform.resize_in_training = not PRESETS[config.transforms].sized
    state = TrainingState(
        model,
        make_optimizer(model, config),
        GradScaler(device.type, enabled=config.amp == "fp16"),
        None if config.ema is None else AveragedModel(model, use_buffers=True),
    )
    loader, batches = make_loader(train_set, config, device)
    if resume:
        state.restore(out / "state.pt")
        say(f"going on after {state.epoch} epochs, at step {state.step}")
    first = distributed.rank() == 0
    if first and not resume:
        write_atomically(out / "config.yaml", config.to_yaml().encode())
    shared = model
    if distributed.world_size() > 1:
        shared = DistributedDataParallel(model, device_ids=[device.index] if device.type == "cuda" else None)
    return Run(
        config=config,
        state=state,
        model=shared,
        loader=loader,
        batches=batches,
        learning_rate=plan_learning_rate(config, batches.steps),
        device=device,
        out=out,
        interruption=interruption,
        skips=Skips(out, train_set),
        watch=DivergenceWatch(model, config),
        log=Log(out, config, state.step) if first else None,
    )


def make_optimizer(model: nn.Module, config: RunConfig) -> Optimizer:
    """Return the optimizer of a run, over the parameters that learn."""
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if config.optimizer == "adamw":
        return AdamW(parameters, lr=config.lr, weight_decay=config.weight_decay)
    return SGD(parameters, lr=config.lr, momentum=config.momentum, weight_decay=config.weight_decay)


def make_loader(
    dataset: DetectionDataset, config: RunConfig, device: torch.device
) -> tuple[DataLoader[Any], StepBatches]:
    """Return what this process takes of each step, and where to say which step comes next."""
    batches = StepBatches(
        SeededSampler(len(dataset), config.seed),
        config.batch_size,
        accumulate=config.accumulate,
        rank=distributed.rank(),
        processes=distributed.world_size(),
    )
    loader: DataLoader[Any] = DataLoader(
        training_images(dataset, config),
        batch_sampler=batches,
        num_workers=config.workers,
        collate_fn=collate,
        worker_init_fn=begin_worker,
        pin_memory=device.type == "cuda",
        persistent_workers=config.workers > 0,
        generator=torch.Generator(),  # of its own: how often a loader draws depends on its workers
    )
    return loader, batches


def training_images(dataset: DetectionDataset, config: RunConfig) -> TransformedDataset:
    """Return a data set as a run's training sees it."""
    transform = make_transform(config.transforms, flip=config.flip, min_size=config.min_size, max_size=config.max_size)
    return TransformedDataset(dataset, transform, pastes=PRESETS[config.transforms].pastes, on_bad=config.on_bad)


def first_batch(dataset: DetectionDataset, config: RunConfig) -> Iterator[tuple[Tensor, Target]]:
    """Yield the images of a run's first step as its detector sees them, resized and padded, and their targets.

    Only their colours are as they were: images (3, H, W) are in [0, 1].
    """
    seen = training_images(dataset, config)
    keys = list(SeededSampler(len(dataset), config.seed))[: config.batch_size]
    samples = [seen[key] for key in keys]
    as_it_is = Transform(config.min_size, config.max_size, [0.0] * 3, [1.0] * 3).train()
    as_it_is.resize_in_training = not PRESETS[config.transforms].sized
    batch, targets = as_it_is([sample.image for sample in samples], [sample.target for sample in samples])
    yield from zip(batch.tensors, targets, strict=True)


def plan_learning_rate(config: RunConfig, steps_per_epoch: int) -> Callable[[int], float]:
    """Return the learning rate as a function of the step, and tell the user what it will be."""
    warmup = min(config.warmup_steps, steps_per_epoch * config.epochs // 4)
    falls = f"/10 after epochs {config.milestones}" if config.decay == "step" else "falling as a cosine"
    say(
        f"learning rate {config.lr:g} ({config.lr_per_16:g} at 16 images a step, here {config.batch_size}), "
        f"{config.epochs} epochs of {steps_per_epoch} steps, warm-up {warmup} steps, {falls}"
    )
    settings: dict[str, Any] = {"epochs": config.epochs, "milestones": config.milestones, "decay": config.decay}
    return lambda step: config.lr * lr_factor(step, steps_per_epoch=steps_per_epoch, warmup_steps=warmup, **settings)
