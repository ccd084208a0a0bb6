"""COCO evaluation: run a detector over a data set, convert its output to COCO's results format, compute AP and AR."""

from collections.abc import Callable, Mapping, Sequence
from itertools import zip_longest
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Subset

from drfpn.data import DetectionDataset
from drfpn.data.masks.rle import encode
from drfpn.data.workers import init_worker
from drfpn.detectors.base import CanDetect
from drfpn.detectors.postprocess import iter_masks
from drfpn.evaluation.backend import IoUType, choose_backend, coco_stats, make_cocoeval, name_and_version
from drfpn.evaluation.metrics import COCO_METRICS, Metrics, Values, defined
from drfpn.utils import distributed
from drfpn.utils.console import bar
from drfpn.utils.errors import UserError

Result = dict[str, Any]
"""One detection in COCO's results format: image_id, category_id, bbox (x, y, width, height), score and, of a mask
detector, segmentation (RLE)."""


class _Images(Dataset[tuple[Tensor, int]]):
    """The images of a data set with their ids, without targets."""

    def __init__(self, dataset: DetectionDataset) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.dataset.image(index), self.dataset.image_id(index)


def detect(
    model: CanDetect,
    dataset: DetectionDataset,
    *,
    category_ids: Sequence[int],
    batch_size: int = 8,
    workers: int = 0,
    device: torch.device | str = "cpu",
    on_batch: Callable[[], None] | None = None,
) -> list[Result]:
    """Run a detector over a data set and return its detections in COCO's results format.

    In distributed training each process runs on its part of the images. The process of rank 0 returns the detections
    of all images in the order of the data set, the others an empty list.

    Args:
        model: a detector of this library; left in evaluation mode.
        dataset: images to run on.
        category_ids: category id of each label: label k is ``category_ids[k - 1]``.
        batch_size: images of one forward pass.
        workers: processes that load images.
        device: device of the model.
        on_batch: called after each batch; an exception that it raises ends the evaluation.
    """
    indices = range(distributed.rank(), len(dataset), distributed.world_size())
    loader = DataLoader(
        Subset(_Images(dataset), indices),
        batch_size=batch_size,
        num_workers=workers,
        collate_fn=_as_lists,
        worker_init_fn=init_worker,
        generator=torch.Generator(),  # of its own: evaluation must not advance the generator of a training run
    )
    model.eval()
    per_image: list[list[Result]] = []
    with bar("evaluating", len(loader)) as progress, torch.inference_mode():
        for images, ids in loader:
            outputs = model.detect([image.to(device) for image in images])
            for image, image_id, output in zip(images, ids, outputs, strict=True):
                per_image.append(to_results(output, image_id, category_ids, image.shape[-2:]))
            progress.advance()
            if on_batch is not None:
                on_batch()
    gathered = distributed.gather_objects(per_image)  # process k has images k, k + world size, ...
    return [
        result
        for one_of_each_process in zip_longest(*gathered, fillvalue=[])
        for image_results in one_of_each_process
        for result in image_results
    ]


def _as_lists(batch: Sequence[tuple[Tensor, int]]) -> tuple[list[Tensor], list[int]]:
    images, ids = zip(*batch, strict=True)
    return list(images), list(ids)


def to_results(
    output: Mapping[str, Tensor], image_id: int, category_ids: Sequence[int], size: Sequence[int]
) -> list[Result]:
    """Convert the output of a detector for one image to COCO's results format.

    Args:
        output: ``boxes`` (D, 4) as x1, y1, x2, y2 in pixels, ``labels`` (D,) in 1..K and ``scores`` (D,) as
            torchvision's detectors return them; of mask detectors also ``crops`` (D, 1, M, M) in [0, 1]. Pixels of the
            pasted mask belong to the object from 0.5 on.
        image_id: id of the image.
        category_ids: category id of each label: label k is ``category_ids[k - 1]``.
        size: height and width of the image, pixels.
    """
    boxes = output["boxes"].cpu().double()
    boxes[:, 2:] -= boxes[:, :2]
    rows = zip(boxes.tolist(), output["labels"].tolist(), output["scores"].tolist(), strict=True)
    results = [
        {"image_id": image_id, "category_id": category_ids[label - 1], "bbox": box, "score": score}
        for box, label, score in rows
    ]
    if "crops" in output:
        masks = iter_masks(output["crops"].cpu(), output["boxes"].cpu(), size)
        for result, mask in zip(results, masks, strict=True):
            result["segmentation"] = encode(mask.numpy())
    return results


def evaluate_results(
    ground_truth: Mapping[str, Any],
    results: Sequence[Result],
    *,
    split: str = "",
    masks: bool | None = None,
    backend: str | None = None,
) -> Metrics:
    """Compute COCO's metrics of detections.

    Args:
        ground_truth: a COCO dict, crowd regions included.
        results: detections in COCO's results format; an empty list gives an AP of 0 where there are objects.
        split: name of the split, for the report.
        masks: whether to evaluate masks too; ``None``: if a detection has a mask.
        backend: ``"hotcoco"`` or ``"pycocotools"``; ``None``: the first of them that can be imported.

    Raises:
        UserError: neither backend can be imported, or masks are to be evaluated and a detection or an object of the
            ground truth has none.
    """
    if masks is None:
        masks = any("segmentation" in result for result in results)
    backend = backend or choose_backend()
    names = {category["id"]: category["name"] for category in ground_truth["categories"]}
    box, per_class = _evaluate(backend, ground_truth, results, "bbox", names)
    mask = mask_per_class = None
    if masks:
        require_masks(ground_truth, results)
        mask, mask_per_class = _evaluate(backend, ground_truth, without_boxes(results), "segm", names)
    return Metrics(
        backend=name_and_version(backend),
        split=split,
        images=len(ground_truth["images"]),
        detections=len(results),
        box=box,
        per_class=per_class,
        mask=mask,
        mask_per_class=mask_per_class,
    )


def _evaluate(
    backend: str,
    ground_truth: Mapping[str, Any],
    results: Sequence[Result],
    iou_type: IoUType,
    names: Mapping[int, str],
) -> tuple[Values, dict[str, Values]]:
    """Return the values of ``COCO_METRICS``, and AP and AP50 by class name; ``None`` where there is no object."""
    cocoeval = make_cocoeval(backend, ground_truth, results, iou_type)
    stats = coco_stats(cocoeval)
    precision = cocoeval.eval["precision"]  # (10 IoUs, 101 recalls, classes, areas, max detections)
    return dict(zip(COCO_METRICS, map(defined, stats), strict=True)), {
        names[category]: {"AP": _mean(precision[:, :, k, 0, -1]), "AP50": _mean(precision[0, :, k, 0, -1])}
        for k, category in enumerate(cocoeval.params.catIds)
    }


def without_boxes(results: Sequence[Result]) -> list[Result]:
    """Return detections with masks only: COCO then takes their areas (small, medium, large) from the masks."""
    return [{key: value for key, value in result.items() if key != "bbox"} for result in results]


def require_masks(ground_truth: Mapping[str, Any], results: Sequence[Result]) -> None:
    """Raise ``UserError`` if an object of the ground truth or a detection has no segmentation."""
    for noun, records in (("object of the ground truth", ground_truth["annotations"]), ("detection", results)):
        for index, record in enumerate(records):
            if not record.get("segmentation"):
                raise UserError(f"The {noun} at index {index} has no segmentation, expected one to evaluate masks.")


def _mean(precision: np.ndarray[Any, Any]) -> float | None:
    """Average the entries that are defined; ``None`` if the class has no object."""
    valid = precision[precision > -1]
    return float(valid.mean()) if valid.size else None
