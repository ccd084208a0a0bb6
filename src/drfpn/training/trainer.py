"""The training loop: ``fit`` trains a detector and writes a run folder."""

import logging
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
from drfpn.data.augment.transformed_dataset import Batch
from drfpn.evaluation.coco import Result, detect, evaluate_results
from drfpn.evaluation.metrics import Metrics
from drfpn.training.checkpoint import Card, save_detector
from drfpn.training.config import RunConfig
from drfpn.training.interrupt import InterruptHandler
from drfpn.training.locks import deterministic_algorithms, lock_folder
from drfpn.training.loggers import RunLogger, check_loggers
from drfpn.training.loss_meter import LossMeter
from drfpn.training.run_folder import removed_without_state
from drfpn.training.setup import Run, build_run
from drfpn.training.skipped_images import check_skipped_objects
from drfpn.utils import distributed
from drfpn.utils.console import bar
from drfpn.utils.errors import Interrupted, UsageError, UserError
from drfpn.utils.formatting import percent
from drfpn.utils.io import write_json

logger = logging.getLogger(__name__)

AMP_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}
"""Types of automatic mixed precision by the setting ``amp``."""

DETECTIONS = "detections.json"
"""Name of the file with the detections of the last evaluation."""

GPU_READ_INTERVAL = 20
"""Steps between readings of the loss on a GPU, each of which synchronizes it."""


def fit(
    config: RunConfig,
    train_set: DetectionDataset,
    val_set: DetectionDataset,
    out: Path,
    *,
    device: torch.device | str = "cpu",
    resume: bool = False,
) -> Metrics:
    """Train a detector and write a run folder, without the figures and the report of :func:`drfpn.training.train`.

    The folder holds ``config.yaml``, ``log.jsonl`` and ``log.csv`` (a row per epoch), ``steps.jsonl`` and
    ``steps.csv`` (losses every few steps), ``last.safetensors`` and ``best.safetensors`` (weights with their card),
    ``state.pt`` (to resume), ``metrics.json`` and ``detections.json`` (of the last evaluation). A run that fails before
    its first saved state leaves the folder as it was.

    Processes that ``torchrun`` has started call this together and share the images of each step.

    Args:
        config: the settings.
        train_set: images to train on.
        val_set: images to evaluate on, with the same classes.
        out: the run folder, created if missing.
        device: device to train on.
        resume: continue the run in ``out`` from its saved state.

    Returns:
        COCO's metrics on ``val_set`` after the last epoch.

    Raises:
        UserError: settings, data or files that cannot be used, or another process is training in ``out``.
        Interrupted: SIGTERM or Ctrl-C; the state is saved.
    """
    device = torch.device(device)
    with ExitStack() as stack:
        stack.enter_context(distributed.process_group(device))
        _check(config, train_set, val_set)
        stack.enter_context(lock_folder(out))
        stack.enter_context(removed_without_state(out))
        stack.enter_context(deterministic_algorithms(config.deterministic))
        interrupt = stack.enter_context(InterruptHandler())
        card = Card(
            config=config,
            classes=train_set.classes,
            category_ids=train_set.category_ids,
            versions={"python": platform.python_version(), "torch": torch.__version__},
        )
        run = build_run(card, train_set, out, device, interrupt, resume=resume)
        while not run.is_finished():
            train_one_epoch(run)
            results = finish_epoch(run, val_set, card)
            if run.is_finished() and results is not None:
                _write_detections(run, results)
            run.save()
            finished = run.state.epoch == config.epochs
            run.stop_if(0 if finished else distributed.all_reduce_max([interrupt.signal_number])[0])
        if distributed.broadcast_object(not (out / DETECTIONS).is_file()):  # deleted, or of an earlier version
            _write_detections(run, evaluate(run, val_set)[1])
        if run.run_logger is not None:
            run.run_logger.close()
        text = (out / "metrics.json").read_text(encoding="utf-8") if distributed.rank() == 0 else ""
        return Metrics.model_validate_json(distributed.broadcast_object(text))


def _write_detections(run: Run, results: list[Result]) -> None:
    if distributed.rank() == 0:
        write_json(run.out / DETECTIONS, results, indent=None)


def loss_read_interval(device: torch.device) -> int:
    """Return the number of steps between readings of the loss.

    Args:
        device: device of the losses; on a CPU every step is read.
    """
    return 1 if device.type == "cpu" else GPU_READ_INTERVAL


def _check(config: RunConfig, train_set: DetectionDataset, val_set: DetectionDataset) -> None:
    if val_set.classes != train_set.classes:
        raise UserError(f"The classes of the two splits differ: {train_set.classes} and {val_set.classes}.")
    micro_batches = config.grad_accum_steps * distributed.world_size()
    if config.batch_size % micro_batches:
        raise UsageError(
            f"batch_size is {config.batch_size}, expected a multiple of {micro_batches}: {config.grad_accum_steps} "
            f"(grad_accum_steps) x {distributed.world_size()} (processes)."
        )
    check_loggers(config.loggers)
    check_skipped_objects(train_set)
    if not train_set.has_objects():
        raise UserError(
            f"None of the {len(train_set)} images of '{config.train_split}' of {config.data} has an object to train "
            "on: images without objects can only be added to others (crowd regions are not objects)."
        )
    if not val_set.has_objects():
        logger.warning(
            f"None of the {len(val_set)} images of '{config.val_split}' has an object: there is no AP, and no epoch is "
            "the best one"
        )


def train_one_epoch(run: Run) -> None:
    """Train for the remaining steps of the epoch; ``run.state.totals`` sums their loss terms.

    Args:
        run: the run.

    Raises:
        UserError: a loss that is not finite, with its terms and the images of the batch, or data that cannot be used.
        Interrupted: a signal was received; the state is saved.
    """
    config, state = run.config, run.state
    run.model.train()
    first_step = state.epoch * run.batch_sampler.steps_per_epoch
    run.batch_sampler.set_epoch(state.epoch, state.step - first_step)
    meter = LossMeter(state.totals, run.monitor.advice())
    loader = iter(run.loader)
    read_interval = loss_read_interval(run.device)
    unread, start_time, earlier_seconds, num_images = state.step, time.monotonic(), state.seconds, 0
    remaining = len(run.batch_sampler) // config.grad_accum_steps
    title = f"epoch {state.epoch + 1}/{config.epochs}"
    with bar(title, remaining) as progress, run.skipped_images.written_on_error():
        while (done := state.step - first_step) < run.batch_sampler.steps_per_epoch:
            batches = _next_batches(run, loader, meter, unread)
            with run.monitor.observe(state.step):
                terms = train_step(run, batches)
            state.seconds = earlier_seconds + time.monotonic() - start_time
            meter.add(terms, [name for batch in batches for name in batch.names])
            done, num_images = done + 1, num_images + sum(len(batch.images) for batch in batches)
            end_of_epoch = done == run.batch_sampler.steps_per_epoch
            save_due = state.step % config.save_every == 0 and not end_of_epoch  # fit saves after the epoch
            log_due = state.step % config.log_every == 0
            # not delayed until the next reading: data loader workers stop soon after their own signal
            signal_number = distributed.all_reduce_max([run.interrupt.signal_number])[0]
            if end_of_epoch or save_due or log_due or signal_number or done % read_interval == 0:
                pending = run.skipped_images.num_pending
                signal_number, skipped = meter.read(unread, run.interrupt.signal_number, pending)
                run.monitor.update(unread, meter.recent)
                unread = state.step
                if skipped:
                    run.save()  # the next line raises if too many are skipped
                    run.skipped_images.synchronize()
                if log_due and run.run_logger is not None:
                    lr = run.learning_rate(state.step - 1)
                    run.run_logger.step({"step": state.step, "lr": lr} | meter.latest)
                if save_due:
                    run.save()
                run.stop_if(signal_number)
            images_per_second = num_images * distributed.world_size() / (time.monotonic() - start_time)
            mean_loss = state.totals.get("loss", 0.0) / max(1, unread - first_step)
            progress.advance(f"loss {mean_loss:.3f}  {images_per_second:.1f} img/s")
    state.seconds = earlier_seconds + time.monotonic() - start_time


def _next_batches(run: Run, loader: Iterator[Any], meter: LossMeter, unread: int) -> list[Batch]:
    """Return the micro-batches of the next step; if the data cannot be read, the state is saved first."""
    batches: list[Batch] = []
    try:
        for _ in range(run.config.grad_accum_steps):
            batches.append(next(loader))
            run.skipped_images.add(batches[-1].skipped)
    except UserError:
        if run.state.step and distributed.world_size() == 1:  # saving needs all processes, which may have no error
            meter.read(unread)
            run.save()
        raise
    return batches


def train_step(run: Run, batches: Sequence[Batch]) -> dict[str, Tensor]:
    """Update the weights once by the gradient accumulated over some micro-batches.

    Args:
        run: the run.
        batches: micro-batches of the step.

    Returns:
        The loss terms and their sum, "loss", as scalars on the device.
    """
    config, state = run.config, run.state
    for group in state.optimizer.param_groups:
        group["lr"] = run.learning_rate(state.step)
    state.optimizer.zero_grad(set_to_none=True)
    terms: dict[str, Tensor] = {}
    for number, batch in enumerate(batches, start=1):
        pinned = run.device.type == "cuda"  # memory that is not pinned could be freed before it is copied
        images = [image.to(run.device, non_blocking=pinned) for image in batch.images]
        targets = [
            {key: value.to(run.device, non_blocking=pinned) for key, value in target.items()}
            for target in batch.targets
        ]
        # gradients are reduced over processes with the last micro-batch only
        no_sync = number < len(batches) and isinstance(run.model, DistributedDataParallel)
        with run.model.no_sync() if no_sync else nullcontext():  # type: ignore[operator]
            dtype = AMP_DTYPES.get(config.amp)
            with torch.autocast(run.device.type, dtype, enabled=dtype is not None):
                losses: dict[str, Tensor] = run.model(images, targets)
            losses = {name: value.float() / len(batches) for name, value in losses.items()}
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
    """Evaluate if an evaluation is due, write weights, metrics and logs, and count the epoch.

    Args:
        run: the run.
        val_set: images to evaluate on.
        card: card of the run.

    Returns:
        The detections in COCO's results format, ``None`` without an evaluation.
    """
    config, state = run.config, run.state
    epoch = state.epoch + 1
    metrics, results = None, None
    if epoch == config.epochs or (config.eval_every > 0 and epoch % config.eval_every == 0):
        run.save()  # so that an interrupted evaluation does not lose the epoch
        metrics, results = evaluate(run, val_set)
    value = distributed.broadcast_object(metrics.main_metric if metrics is not None else None)
    improved = value is not None and value > state.best
    if value is not None:
        state.stale = 0 if improved else state.stale + 1
    if run.run_logger is not None:
        _write_epoch(run, metrics, card.model_copy(update={"epoch": epoch}), best=improved)
        _log_epoch(run, run.run_logger, epoch, metrics)
    if value is not None:
        state.best = max(value, state.best)
    state.epoch, state.seconds = epoch, 0.0
    state.totals.clear()
    return results


def evaluate(run: Run, dataset: DetectionDataset) -> tuple[Metrics | None, list[Result]]:
    """Evaluate the weights of a run; all processes call this together.

    Args:
        run: the run.
        dataset: images to evaluate on.

    Returns:
        Metrics and detections in COCO's results format on rank 0, else ``None`` and an empty list.

    Raises:
        Interrupted: a signal was received.
    """

    def stop_if_interrupted() -> None:
        if run.interrupt.signal_number:
            raise Interrupted(run.interrupt.signal_number)

    results = detect(
        run.state.eval_model,
        dataset,
        category_ids=dataset.category_ids,
        batch_size=max(1, run.config.batch_size // (run.config.grad_accum_steps * distributed.world_size())),
        workers=run.config.workers,
        device=run.device,
        on_batch=stop_if_interrupted,
    )
    if distributed.rank() > 0:
        return None, []
    split, masks = run.config.val_split, run.config.masks
    return evaluate_results(dataset.ground_truth(), results, split=split, masks=masks), results


def _write_epoch(run: Run, metrics: Metrics | None, card: Card, *, best: bool) -> None:
    """Write the weights and metrics of an epoch."""
    if metrics is not None:
        write_json(run.out / "metrics.json", metrics.model_dump())
        defined = {name: value for name, value in metrics.summary().items() if value is not None}
        card = card.model_copy(update={"metrics": defined})
    save_detector(run.out / "last.safetensors", run.state.eval_model, card)
    if best:
        save_detector(run.out / "best.safetensors", run.state.eval_model, card)


def _log_epoch(run: Run, run_logger: RunLogger, epoch: int, metrics: Metrics | None) -> None:
    """Log the mean losses and the metrics of an epoch."""
    state = run.state
    losses = {name: total / run.batch_sampler.steps_per_epoch for name, total in state.totals.items()}
    row: dict[str, Any] = {"epoch": epoch, "step": state.step, "lr": run.learning_rate(state.step - 1)}
    row |= {"seconds": round(state.seconds, 2)} | losses
    line = f"epoch {epoch}: loss {losses['loss']:.3f}, {state.seconds:.0f} s"
    if metrics is not None:
        row |= metrics.summary()
        line += f", AP {percent(metrics.box['AP'])}, AP50 {percent(metrics.box['AP50'])}"
        line += "" if metrics.mask is None else f", mask AP {percent(metrics.mask['AP'])}"
    run_logger.epoch(row)
    logger.info(line)
