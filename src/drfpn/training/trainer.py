"""Training: a plain loop, one step a function."""

import platform
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from drfpn.data import DetectionDataset
from drfpn.data.augment.transforms import Batch
from drfpn.evaluation.coco import Metrics, Result, detect, score
from drfpn.training.checkpoint import Card, save_detector
from drfpn.training.config import RunConfig
from drfpn.training.interrupt import Interrupted, Interruption
from drfpn.training.locks import alone_in, deterministic
from drfpn.training.loggers import Log, check_loggers
from drfpn.training.loss_meter import LossMeter
from drfpn.training.run import Run, start_run
from drfpn.training.skipped_images import check_left_out
from drfpn.utils import distributed
from drfpn.utils.console import bar, say
from drfpn.utils.errors import UserError
from drfpn.utils.io import write_json

PRECISIONS = {"bf16": torch.bfloat16, "fp16": torch.float16}
STEPS_BETWEEN_READINGS = 20
"""On a GPU, where reading a loss waits for it; on a CPU every step is read."""


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

    The folder holds ``config.yaml``, ``log.jsonl`` and ``log.csv`` (a row an epoch), ``steps.jsonl`` and ``steps.csv``
    (losses now and then), ``last.safetensors`` and ``best.safetensors`` (weights with their card), ``state.pt`` (to go
    on from), ``metrics.json`` and ``detections.json`` (of the last evaluation).

    Started by ``torchrun``, all processes call this together and share each step's images.

    Args:
        config: the settings.
        train_set: images to learn from.
        val_set: images to measure on, with the same classes.
        out: the run folder, made if missing.
        device: where to train.
        resume: go on where ``out`` stands.

    Returns:
        COCO's numbers on ``val_set`` after the last epoch.

    Raises:
        UserError: settings, data or files that cannot be used, another process that trains into ``out``.
        Interrupted: SIGTERM or Ctrl-C; the state is saved.
    """
    device = torch.device(device)
    with ExitStack() as stack:
        stack.enter_context(distributed.process_group(device))
        _check(config, train_set, val_set)
        stack.enter_context(alone_in(out))
        stack.enter_context(deterministic(config.deterministic))
        interruption = stack.enter_context(Interruption())
        card = Card(
            config=config,
            classes=train_set.classes,
            category_ids=train_set.category_ids,
            versions={"python": platform.python_version(), "torch": torch.__version__},
        )
        run = start_run(card, train_set, out, device, interruption, resume=resume)
        state, results = run.state, None
        while state.epoch < config.epochs and (config.patience is None or state.stale < config.patience):
            train_one_epoch(run)
            results = finish_epoch(run, val_set, card)
            run.save()
            run.stop(distributed.all_reduce_max([interruption.asked])[0] if state.epoch < config.epochs else 0)
        if run.log is not None:
            run.log.close()
            if results is not None:
                write_json(out / "detections.json", results, indent=None)
        text = (out / "metrics.json").read_text(encoding="utf-8") if distributed.rank() == 0 else ""
        return Metrics.model_validate_json(distributed.broadcast_object(text))


def steps_between_readings(device: torch.device) -> int:
    """Return after how many steps losses are read from a device."""
    return 1 if device.type == "cpu" else STEPS_BETWEEN_READINGS


def _check(config: RunConfig, train_set: DetectionDataset, val_set: DetectionDataset) -> None:
    if val_set.classes != train_set.classes:
        raise UserError(f"The classes of the two splits differ: {train_set.classes} and {val_set.classes}.")
    pieces = config.accumulate * distributed.world_size()
    if config.batch_size % pieces:
        raise UserError(
            f"batch_size is {config.batch_size} images a step, expected a multiple of {pieces}: {config.accumulate} "
            f"(accumulate) x {distributed.world_size()} (processes).",
            exit_code=2,
        )
    check_loggers(config.loggers)
    check_left_out(train_set)


def train_one_epoch(run: Run) -> None:
    """Take the steps of the epoch that are not done yet; ``run.state.totals`` sums their loss terms.

    Raises:
        UserError: a loss that is not finite, with its terms and the images of the batch, or data that cannot be used.
        Interrupted: a signal asked for it; the state is saved.
    """
    config, state = run.config, run.state
    run.model.train()
    first = state.epoch * run.batches.steps
    run.batches.start(state.epoch, state.step - first)
    meter = LossMeter(state.totals, run.watch.advice())
    pieces = iter(run.loader)
    between = steps_between_readings(run.device)
    unread, began, shown = state.step, time.monotonic(), 0
    with bar(f"epoch {state.epoch + 1}/{config.epochs}", len(run.batches) // config.accumulate) as progress:
        while (done := state.step - first) < run.batches.steps:
            parts = _next_parts(run, pieces, meter, unread)
            with run.watch.looking(state.step):
                terms = take_step(run, parts)
            meter.add(terms, [name for part in parts for name in part.names])
            done, shown = done + 1, shown + sum(len(part.images) for part in parts)
            over = done == run.batches.steps
            due = state.step % config.save_every == 0 and not over  # the end of an epoch is saved anyway
            logged = state.step % config.log_every == 0
            # a signal is not left for the next reading: workers end soon after theirs, and so may the machine
            asked = distributed.all_reduce_max([run.interruption.asked])[0]
            if over or due or logged or asked or done % between == 0:
                asked, skipped = meter.read(unread, run.interruption.asked, run.skips.new)
                run.watch.read(unread, meter.recent)
                unread = state.step
                if skipped:
                    run.save()  # too many may be left out by now
                    run.skips.hand_in()
                if logged and run.log is not None:
                    run.log.step({"step": state.step, "lr": run.learning_rate(state.step - 1)} | meter.latest)
                if due:
                    run.save()
                run.stop(asked)
            rate = shown * distributed.world_size() / (time.monotonic() - began)
            progress.advance(f"loss {state.totals.get('loss', 0.0) / max(1, unread - first):.3f}  {rate:.1f} img/s")
    state.seconds += time.monotonic() - began


def _next_parts(run: Run, pieces: Iterator[Any], meter: LossMeter, unread: int) -> list[Batch]:
    """Return the parts of the next step. Data that cannot be used does not cost the steps that are done."""
    try:
        parts = [next(pieces) for _ in range(run.config.accumulate)]
    except UserError:
        if run.state.step and distributed.world_size() == 1:  # else the others are not here to save with
            meter.read(unread)
            run.save()
        raise
    run.skips.add(skipped for part in parts for skipped in part.skipped)
    return parts


def take_step(run: Run, parts: Sequence[Batch]) -> dict[str, Tensor]:
    """Move the weights once, by the gradient of all ``parts``; returns the loss terms and their sum, "loss"."""
    config, state = run.config, run.state
    for group in state.optimizer.param_groups:
        group["lr"] = run.learning_rate(state.step)
    state.optimizer.zero_grad(set_to_none=True)
    terms: dict[str, Tensor] = {}
    for number, part in enumerate(parts, start=1):
        pinned = run.device.type == "cuda"  # elsewhere the memory could be released before it is copied
        images = [image.to(run.device, non_blocking=pinned) for image in part.images]
        targets = [
            {key: value.to(run.device, non_blocking=pinned) for key, value in target.items()} for target in part.targets
        ]
        # gradients are shared with the last part
        alone = number < len(parts) and isinstance(run.model, DistributedDataParallel)
        with run.model.no_sync() if alone else nullcontext():  # type: ignore[operator]
            precision = PRECISIONS.get(config.amp)
            with torch.autocast(run.device.type, precision, enabled=precision is not None):
                losses: dict[str, Tensor] = run.model(images, targets)
            losses = {name: value.float() / len(parts) for name, value in losses.items()}
            losses = {"loss": torch.stack(list(losses.values())).sum()} | losses
            state.scaler.scale(losses["loss"]).backward()
        terms = {name: value.detach() + terms.get(name, 0.0) for name, value in losses.items()}
    if config.clip_norm is not None:
        state.scaler.unscale_(state.optimizer)
        nn.utils.clip_grad_norm_(state.model.parameters(), config.clip_norm)
    state.scaler.step(state.optimizer)
    state.scaler.update()
    state.step += 1
    state.update_average(config.ema or 0.0)
    return terms


def finish_epoch(run: Run, val_set: DetectionDataset, card: Card) -> list[Result] | None:
    """Measure where it is due, write weights, numbers and logs, and count the epoch; returns the detections."""
    config, state = run.config, run.state
    number = state.epoch + 1
    due = number == config.epochs or (config.eval_every > 0 and number % config.eval_every == 0)
    metrics, results = None, None
    if due:
        run.save()  # nothing of the epoch is lost if its evaluation is stopped
        metrics, results = evaluate(run, val_set)
    aim = distributed.broadcast_object(metrics.aim if metrics is not None else None)
    if aim is not None:
        state.stale = 0 if aim > state.best else state.stale + 1
    if run.log is not None:
        _write(run, metrics, card.model_copy(update={"epoch": number}), best=aim is not None and aim > state.best)
        _log(run, run.log, number, metrics)
    if aim is not None:
        state.best = max(aim, state.best)
    state.epoch, state.seconds = number, 0.0
    state.totals.clear()
    return results


def evaluate(run: Run, dataset: DetectionDataset) -> tuple[Metrics | None, list[Result]]:
    """Measure the run's weights on a data set; numbers and detections are those of the first process."""

    def stop_if_asked() -> None:
        if run.interruption.asked:
            raise Interrupted(run.interruption.asked)

    results = detect(
        run.state.result,
        dataset,
        category_ids=dataset.category_ids,
        batch_size=max(1, run.config.batch_size // (run.config.accumulate * distributed.world_size())),
        workers=run.config.workers,
        device=run.device,
        on_batch=stop_if_asked,
    )
    if distributed.rank() > 0:
        return None, []
    return score(dataset.ground_truth(), results, split=run.config.val_split, masks=run.config.masks), results


def _write(run: Run, metrics: Metrics | None, card: Card, *, best: bool) -> None:
    """Write weights and numbers of an epoch."""
    if metrics is not None:
        write_json(run.out / "metrics.json", metrics.model_dump())
        card = card.model_copy(update={"metrics": metrics.summary()})
    save_detector(run.out / "last.safetensors", run.state.result, card)
    if best:
        save_detector(run.out / "best.safetensors", run.state.result, card)


def _log(run: Run, log: Log, epoch: int, metrics: Metrics | None) -> None:
    """Log an epoch and tell the user."""
    state = run.state
    losses = {name: total / run.batches.steps for name, total in state.totals.items()}
    row: dict[str, Any] = {"epoch": epoch, "step": state.step, "lr": run.learning_rate(state.step - 1)}
    row |= {"seconds": round(state.seconds, 2)} | losses
    line = f"epoch {epoch}: loss {losses['loss']:.3f}, {state.seconds:.0f} s"
    if metrics is not None:
        row |= metrics.summary()
        line += f", AP {100 * metrics.box['AP']:.1f}, AP50 {100 * metrics.box['AP50']:.1f}"
        line += "" if metrics.mask is None else f", mask AP {100 * metrics.mask['AP']:.1f}"
    log.epoch(row)
    say(line)
