"""Training: a plain loop, one epoch a function."""

import json
import math
import platform
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import SGD, AdamW, Optimizer
from torch.utils.data import DataLoader

from drfpn.data import DetectionDataset
from drfpn.data.transforms import TransformedDataset, basic, collate
from drfpn.engine.checkpoint import Card, build, load_state, save_detector, save_state, write_atomically, write_json
from drfpn.engine.config import RunConfig
from drfpn.engine.evaluate import Metrics, detect, score
from drfpn.engine.loader import SeededSampler
from drfpn.engine.progress import Bar, bar, say
from drfpn.engine.schedule import lr_factor
from drfpn.errors import UserError


def train_one_epoch(
    model: nn.Module,
    optimizer: Optimizer,
    loader: DataLoader[Any],
    learning_rate: Callable[[int], float],
    *,
    first_step: int,
    device: torch.device,
    clip_norm: float | None,
    progress: Bar,
) -> dict[str, float]:
    """Pass once over ``loader`` and return the mean of every loss term and of their sum ("loss").

    Raises:
        UserError: a loss that is not finite, with its terms and the images of the batch.
    """
    model.train()
    totals: dict[str, float] = {}
    started = time.monotonic()
    for step, (images, targets, names) in enumerate(loader):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(first_step + step)
        images = [image.to(device, non_blocking=True) for image in images]
        targets = [{key: value.to(device) for key, value in target.items()} for target in targets]

        losses: dict[str, Tensor] = model(images, targets)
        loss = torch.stack(list(losses.values())).sum()
        terms = {"loss": loss.item()} | {name: value.item() for name, value in losses.items()}
        if not math.isfinite(terms["loss"]):
            said = ", ".join(f"{name} {value:.4g}" for name, value in terms.items())
            raise UserError(
                f"The loss is not finite at step {first_step + step} ({said}); the batch was {', '.join(names)}: "
                "look at these with 'drfpn data check', or lower the learning rate (-o lr_per_16=...)."
            )

        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        if clip_norm is not None:
            nn.utils.clip_grad_norm_(model.parameters(), clip_norm)
        optimizer.step()

        for name, value in terms.items():
            totals[name] = totals.get(name, 0.0) + value
        rate = (step + 1) / (time.monotonic() - started)
        progress.advance(f"loss {totals['loss'] / (step + 1):.3f}  {rate * len(images):.1f} img/s")
    return {name: total / len(loader) for name, total in totals.items()}


def make_optimizer(model: nn.Module, config: RunConfig) -> Optimizer:
    """Return the optimizer of a run, over the parameters that learn."""
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if config.optimizer == "adamw":
        return AdamW(parameters, lr=config.lr, weight_decay=config.weight_decay)
    return SGD(parameters, lr=config.lr, momentum=config.momentum, weight_decay=config.weight_decay)


def make_loader(dataset: DetectionDataset, config: RunConfig, device: torch.device) -> DataLoader[Any]:
    """Return the batches of a run; ``loader.sampler.epoch`` says which epoch's order comes next."""
    return DataLoader(
        TransformedDataset(dataset, basic(config.flip)),
        batch_size=config.batch_size,
        sampler=SeededSampler(len(dataset), config.seed),
        num_workers=config.workers,
        collate_fn=collate,
        pin_memory=device.type == "cuda",
        persistent_workers=config.workers > 0,
        generator=torch.Generator(),  # of its own: how often a loader draws depends on its workers
    )


def train(
    config: RunConfig,
    train_set: DetectionDataset,
    val_set: DetectionDataset,
    out: Path,
    *,
    device: torch.device | str = "cpu",
    resume: bool = False,
) -> Metrics:
    """Train a detector and leave a run folder.

    The folder holds ``config.yaml``, ``log.jsonl`` (a line an epoch), ``last.safetensors`` and ``best.safetensors``
    (weights with their card), ``state.pt`` (to go on from) and ``metrics.json`` (of the last evaluation).

    Args:
        config: the settings.
        train_set: images to learn from.
        val_set: images to measure on, with the same classes.
        out: the run folder, made if missing.
        device: where to train.
        resume: go on where ``out`` stands.

    Returns:
        COCO's numbers on ``val_set`` after the last epoch.
    """
    if val_set.classes != train_set.classes:
        raise UserError(f"The classes of the two splits differ: {train_set.classes} and {val_set.classes}.")
    device = torch.device(device)
    torch.manual_seed(config.seed)
    card = Card(
        config=config,
        classes=train_set.classes,
        category_ids=train_set.category_ids,
        versions={"python": platform.python_version(), "torch": torch.__version__},
    )
    model = build(card, pretrained=not resume).to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = make_optimizer(model, config)
    loader = make_loader(train_set, config, device)
    learning_rate = plan_learning_rate(config, len(loader))
    out.mkdir(parents=True, exist_ok=True)
    write_atomically(out / "config.yaml", config.to_yaml().encode())

    start, best = 0, -1.0
    if resume:
        start, best = _restore(load_state(out / "state.pt"), model, optimizer, out)
        say(f"going on after epoch {start}")
    for epoch in range(start + 1, config.epochs + 1):
        loader.sampler.epoch = epoch - 1  # type: ignore[attr-defined]  # typed as any sampler
        began = time.monotonic()
        with bar(f"epoch {epoch}/{config.epochs}", len(loader)) as progress:
            losses = train_one_epoch(
                model,
                optimizer,
                loader,
                learning_rate,
                first_step=(epoch - 1) * len(loader),
                device=device,
                clip_norm=config.clip_norm,
                progress=progress,
            )
        seconds = time.monotonic() - began
        due = epoch == config.epochs or (config.eval_every > 0 and epoch % config.eval_every == 0)
        metrics = evaluate(model, val_set, config, device) if due else None
        best = _save(out, model, card.model_copy(update={"epoch": epoch}), metrics, best)
        _log(out, epoch, losses, learning_rate(epoch * len(loader) - 1), seconds, metrics)
        save_state(out / "state.pt", _state(model, optimizer, epoch, best))
    return Metrics.model_validate_json((out / "metrics.json").read_text(encoding="utf-8"))


def plan_learning_rate(config: RunConfig, steps_per_epoch: int) -> Callable[[int], float]:
    """Return the learning rate as a function of the step, and tell the user what it will be."""
    warmup = min(config.warmup_steps, steps_per_epoch * config.epochs // 4)
    say(
        f"learning rate {config.lr:g} ({config.lr_per_16:g} at 16 images a step, here {config.batch_size}), "
        f"{config.epochs} epochs of {steps_per_epoch} steps, warm-up {warmup} steps, "
        f"/10 after epochs {config.milestones}"
    )
    return lambda step: (
        config.lr * lr_factor(step, steps_per_epoch=steps_per_epoch, warmup_steps=warmup, milestones=config.milestones)
    )


def _save(out: Path, model: nn.Module, card: Card, metrics: Metrics | None, best: float) -> float:
    """Write weights and numbers of an epoch; returns the best AP so far."""
    if metrics is not None:
        write_json(out / "metrics.json", metrics.model_dump())
        card = card.model_copy(update={"metrics": metrics.summary()})
    save_detector(out / "last.safetensors", model, card)
    if metrics is None or metrics.aim <= best:
        return best
    save_detector(out / "best.safetensors", model, card)
    return metrics.aim


def evaluate(model: nn.Module, dataset: DetectionDataset, config: RunConfig, device: torch.device) -> Metrics:
    """Measure ``model`` on a data set."""
    results = detect(
        model,
        dataset,
        category_ids=dataset.category_ids,
        batch_size=config.batch_size,
        workers=config.workers,
        device=device,
    )
    return score(dataset.ground_truth(), results, split=config.val_split, masks=config.masks)


def _log(out: Path, epoch: int, losses: dict[str, float], rate: float, seconds: float, metrics: Metrics | None) -> None:
    """Append a line to log.jsonl and tell the user."""
    row: dict[str, Any] = {"epoch": epoch, "lr": rate, "seconds": round(seconds, 2)} | losses
    line = f"epoch {epoch}: loss {losses['loss']:.3f}, {seconds:.0f} s"
    if metrics is not None:
        row |= metrics.summary()
        line += f", AP {100 * metrics.box['AP']:.1f}, AP50 {100 * metrics.box['AP50']:.1f}"
        line += "" if metrics.mask is None else f", mask AP {100 * metrics.mask['AP']:.1f}"
    with (out / "log.jsonl").open("a", encoding="utf-8") as stream:
        stream.write(json.dumps(row) + "\n")
    say(line)


def _state(model: nn.Module, optimizer: Optimizer, epoch: int, best: float) -> dict[str, Any]:
    return {
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "epoch": epoch,
        "best": best,
        "rng": torch.get_rng_state(),
    }


def _restore(state: dict[str, Any], model: nn.Module, optimizer: Optimizer, out: Path) -> tuple[int, float]:
    """Put a saved state back; returns the epochs done and the best AP so far."""
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    torch.set_rng_state(state["rng"])
    # a log line may have been written for an epoch whose state was not
    log = out / "log.jsonl"
    if log.is_file():
        lines = [line for line in log.read_text(encoding="utf-8").splitlines() if line]
        kept = [line for line in lines if json.loads(line)["epoch"] <= state["epoch"]]
        write_atomically(log, "".join(line + "\n" for line in kept).encode())
    return int(state["epoch"]), float(state["best"])
