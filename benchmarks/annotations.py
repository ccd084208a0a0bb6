"""Time and memory of opening annotations of COCO's size, and memory of the loader workers.

python benchmarks/annotations.py [--images 120000] [--objects 860000] [--masks]
"""

import argparse
import json
import os
import random
import tempfile
import time
from pathlib import Path

import torch
from PIL import Image
from torch.utils.data import DataLoader

from drfpn.data import AnnotatedDataset, open_dataset
from drfpn.data.augment.presets import make_transform
from drfpn.data.augment.transformed_dataset import TransformedDataset, collate
from drfpn.data.workers import init_worker
from drfpn.training.sampler import SeededSampler, StepBatchSampler
from drfpn.utils.console import bar, say


class GrayImages(AnnotatedDataset):
    """Annotations with small gray images in place of files."""

    def image(self, index: int) -> torch.Tensor:
        height, width = self.annotations.sizes[index].tolist()
        return torch.full((3, 1, 1), 127, dtype=torch.uint8).expand(3, height // 8, width // 8).clone()


def write(folder: Path, images: int, objects: int) -> Path:
    """Write a folder in COCO layout: objects with polygons of 10 to 60 numbers in random order, categories last."""
    rng = random.Random(0)
    (folder / "annotations").mkdir()
    (folder / "train2017").mkdir()
    Image.new("RGB", (640, 480)).save(folder / "train2017" / f"{1:012d}.jpg")
    file = folder / "annotations" / "instances_train2017.json"
    with file.open("w") as stream, bar("writing annotations", objects) as progress:
        stream.write('{"info": {}, "licenses": [], "images": [')
        for i in range(1, images + 1):
            record = {"license": 3, "file_name": f"{i:012d}.jpg", "coco_url": f"http://images.org/{i:012d}.jpg"}
            record |= {"height": 480, "width": 640, "date_captured": "2013-11-14 11:18:45", "id": i}
            stream.write((", " if i > 1 else "") + json.dumps(record))
        stream.write('], "annotations": [')
        for i in range(1, objects + 1):
            x, y = rng.uniform(0, 500), rng.uniform(0, 400)
            width, height = rng.uniform(5, 130), rng.uniform(5, 75)
            points = [
                round(v, 2)
                for _ in range(rng.randint(5, 30))
                for v in (x + rng.random() * width, y + rng.random() * height)
            ]
            record = {"segmentation": [points], "area": round(width * height / 2, 4), "iscrowd": 0}
            record |= {"image_id": rng.randint(1, images), "category_id": rng.randint(1, 80), "id": i}
            record["bbox"] = [round(value, 2) for value in (x, y, width, height)]
            stream.write((", " if i > 1 else "") + json.dumps(record))
            progress.advance()
        stream.write('], "categories": [')
        stream.write(", ".join(json.dumps({"id": i, "name": f"thing {i}"}) for i in range(1, 81)) + "]}")
    return file


def memory(pid: int, key: str) -> float:
    """Return a value of smaps_rollup in MiB; Pss is proportional for shared pages."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{key}:")) / 1024


def peak() -> float:
    """Return the largest resident memory of this process so far, MiB."""
    return next(int(li.split()[1]) for li in Path("/proc/self/status").read_text().splitlines() if "VmHWM" in li) / 1024


def workers_memory(dataset: AnnotatedDataset, workers: int = 4, epochs: int = 3, batch: int = 256) -> list[dict]:
    """Return the memory of all processes after each epoch."""
    data = TransformedDataset(dataset, make_transform("basic", hflip_prob=0.5, min_size=60, max_size=80))
    batches = StepBatchSampler(SeededSampler(len(dataset), 0), batch)
    loader = DataLoader(
        data,
        batch_sampler=batches,
        num_workers=workers,
        collate_fn=collate,
        worker_init_fn=init_worker,
        persistent_workers=True,
    )
    rows = []
    for epoch in range(epochs):
        batches.set_epoch(epoch)
        with bar(f"epoch {epoch + 1}", len(loader)) as progress:
            for _ in loader:
                progress.advance()
        own = [worker.pid for worker in loader._iterator._workers]
        rows.append(
            {
                "epoch": epoch + 1,
                "all_pss": round(memory(os.getpid(), "Pss") + sum(memory(pid, "Pss") for pid in own), 1),
                "a_worker_private": round(sum(memory(pid, "Private_Dirty") for pid in own) / workers, 1),
            }
        )
        say(str(rows[-1]))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=120_000)
    parser.add_argument("--objects", type=int, default=860_000)
    parser.add_argument("--masks", action="store_true")
    parser.add_argument("--keep", type=Path, help="folder with the annotations of an earlier call")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = arguments.keep or Path(name)
        file = folder / "annotations" / "instances_train2017.json"
        if not file.exists():
            write(folder, arguments.images, arguments.objects)
        before = memory(os.getpid(), "Rss")
        start = time.perf_counter()
        dataset = open_dataset(str(folder), "train", masks=arguments.masks)
        seconds = time.perf_counter() - start
        result = {
            "megabytes": round(file.stat().st_size / 1e6),
            "images": len(dataset),
            "objects": dataset.num_objects(),
            "masks": arguments.masks,
            "open_seconds": round(seconds, 1),
            "before_mib": round(before),
            "peak_mib": round(peak()),
            "after_mib": round(memory(os.getpid(), "Rss")),
        }
        say(str(result))
        gray = GrayImages(dataset.annotations, masks=False)
        print(json.dumps(result | {"workers": workers_memory(gray)}))


if __name__ == "__main__":
    main()
