"""Memory of ``DataLoader`` workers: they share the annotations instead of copying them object by object."""

import os
import sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from drfpn.data import AnnotatedDataset, Annotations
from drfpn.data.augment.presets import make_transform
from drfpn.data.augment.transformed_dataset import TransformedDataset, collate
from drfpn.data.workers import init_worker
from drfpn.training.sampler import SeededSampler, StepBatchSampler

IMAGES, OBJECTS, WORKERS = 3_000, 600_000, 4


class Faked(AnnotatedDataset):
    """Annotations with images of 10 x 10 pixels that are nowhere."""

    def image(self, index: int) -> torch.Tensor:
        return torch.zeros(3, 10, 10, dtype=torch.uint8)


def large() -> Faked:
    rng = np.random.default_rng(0)
    return Faked(
        Annotations(
            root=Path("images"),
            source=Path("a.json"),
            classes=("thing",),
            category_ids=np.array([1]),
            image_ids=np.arange(1, IMAGES + 1),
            file_names=np.array([f"{i:012d}.jpg" for i in range(IMAGES)]),
            sizes=np.full((IMAGES, 2), 10),
            starts=np.linspace(0, OBJECTS, IMAGES + 1).astype(np.int64),
            boxes=rng.uniform(1, 5, (OBJECTS, 4)),
            labels=np.ones(OBJECTS, dtype=np.int64),
            areas=np.ones(OBJECTS),
            crowd=np.zeros(OBJECTS, dtype=np.bool_),
            annotation_ids=np.arange(1, OBJECTS + 1),
        )
    )


def memory(pid: int, key: str) -> float:
    """Return a line of smaps_rollup in MiB."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{key}:")) / 1024


def read_three_epochs() -> tuple[list[float], list[list[float]]]:
    """Return the memory of a loader's processes in MiB: of all together, and of each worker alone.

    Read after ten batches, and at the end of each epoch.
    """
    batches = StepBatchSampler(SeededSampler(IMAGES, 0), 50)
    loader = DataLoader(
        TransformedDataset(large(), make_transform("basic", hflip_prob=0.5, min_size=10, max_size=10)),
        batch_sampler=batches,
        num_workers=WORKERS,
        collate_fn=collate,
        worker_init_fn=init_worker,
        multiprocessing_context="fork",
        persistent_workers=True,
    )
    loader.dataset[0, 0]  # what is imported at the first use is not to be counted
    everything, private = [], []
    for epoch in range(3):
        batches.set_epoch(epoch)
        for number, _ in enumerate(loader):
            if number in (10 if epoch == 0 else -1, len(loader) - 1):
                workers = [worker.pid for worker in loader._iterator._workers]
                everything.append(sum(memory(pid, "Pss") for pid in [os.getpid(), *workers]))
                private.append([memory(pid, "Private_Dirty") for pid in workers])
    return everything, private


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the memory of a process is read from /proc")
def test_memory_does_not_grow_over_three_epochs_with_four_workers() -> None:
    # In a process of its own: what earlier tests left behind in this one would be copied by the workers, bit by bit.
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        everything, private = pool.submit(read_three_epochs).result()
    annotations = large().annotations
    index = sum(getattr(annotations, name).nbytes for name in ("boxes", "labels", "areas")) / 2**20
    assert everything[-1] < 1.05 * everything[1]  # from the end of the first epoch on
    growth = np.array(private[-1]) - np.array(private[0])  # since each worker had read a hundred images
    assert growth.max() < index / 2  # had it copied what it touched, it would be the index and more
