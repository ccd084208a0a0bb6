"""Prediction of shards as tasks of a Ray cluster."""

import logging
import time
from collections.abc import Sequence
from pathlib import Path

from drfpn.inference.shards import SHARDS, merge_shards, shard_folder
from drfpn.inference.summary import PredictionSummary
from drfpn.training.interrupt import InterruptHandler
from drfpn.utils.console import bar
from drfpn.utils.errors import Interrupted, UserError
from drfpn.utils.io import make_folder, read_last_line
from drfpn.utils.ray_jobs import RayJob, cluster_size, gpus_for, run_command
from drfpn.utils.shard import Shard

logger = logging.getLogger(__name__)

_POLL = 0.2
"""Seconds between polls of the tasks."""


def predict_on_ray(
    arguments: Sequence[str], files: int, out: Path, *, device: str, jobs: int | None
) -> PredictionSummary:
    """Run ``drfpn predict`` on shards of its files on the nodes of the connected cluster, and merge their results.

    A shard whose node is lost starts again on another one.

    Args:
        arguments: command line of ``drfpn``, without a shard.
        files: number of input files.
        out: output folder, on a disk that all nodes share.
        device: ``"auto"`` for a GPU where the cluster has any, or ``"cpu"``.
        jobs: number of shards; ``None`` for one for each GPU, or for each CPU where there are none.

    Raises:
        UserError: shards failed; the results of the others are kept in their folders.
        Interrupted: SIGTERM or Ctrl-C, after all tasks have ended.
    """
    gpus = gpus_for(device)
    count = min(files, jobs or max(1, cluster_size("GPU" if gpus else "CPU")))
    shards = [Shard(number, count) for number in range(1, count + 1)]
    logs = {shard: shard_folder(out.absolute(), shard).with_suffix(".log") for shard in shards}
    make_folder(out / SHARDS)
    failed: dict[Shard, str] = {}
    running: dict[Shard, RayJob] = {}
    with InterruptHandler() as interrupt, bar("predicting", count) as progress:
        try:
            for shard in shards:
                logs[shard].unlink(missing_ok=True)
                command = [*arguments[:1], f"--shard={shard}", *arguments[1:]]
                job = RayJob(run_command, (command, logs[shard], Path.cwd()), name=f"shard {shard}", gpus=gpus)
                running[shard] = job
            while running:
                time.sleep(_POLL)
                if interrupt.signal_number:
                    raise Interrupted(interrupt.signal_number)
                for shard, job in list(running.items()):
                    exit_code = job.poll()
                    if exit_code is None:
                        continue
                    del running[shard]
                    progress.advance(f"shard {shard}")
                    if exit_code:
                        failed[shard] = job.error or read_last_line(logs[shard])
        finally:
            for job in running.values():
                job.stop()
            for job in running.values():
                job.wait()
    try:
        return merge_shards(out)  # also of those that named files that cannot be read, and so failed
    except UserError as error:
        for shard, message in failed.items():
            raise UserError(f"{len(failed)} of {count} shards failed; shard {shard}: {message}") from error
        raise
