"""COCO's numbers for a detector."""

from collections.abc import Callable, Mapping, Sequence
from itertools import zip_longest
from typing import Any

import numpy as np
import torch
from pydantic import BaseModel
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Subset

from drfpn.data import DetectionDataset
from drfpn.data.masks.rle import encode
from drfpn.data.workers import begin_worker
from drfpn.detectors.postprocess import each_mask
from drfpn.evaluation.backend import Kind, choose_backend, coco_stats, make_cocoeval, with_version
from drfpn.utils import distributed
from drfpn.utils.console import bar
from drfpn.utils.errors import UserError

NUMBERS = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl")
"""COCO's twelve, in pycocotools' order; fractions 0..1, -1 where the data has no such object."""

Result = dict[str, Any]
"""One detection in COCO's results format: image_id, category_id, bbox (x, y, width, height), score and, of a mask
detector, segmentation (RLE)."""


class Metrics(BaseModel):
    """What an evaluation found."""

    engine: str
    split: str
    images: int
    detections: int
    box: dict[str, float]
    """COCO's twelve numbers by name."""
    per_class: dict[str, dict[str, float]]
    """AP and AP50 of boxes by class name."""
    mask: dict[str, float] | None = None
    """The twelve for masks; ``None`` for detections without."""
    mask_per_class: dict[str, dict[str, float]] | None = None
    """AP and AP50 of masks by class name."""

    @property
    def aim(self) -> float:
        """The number by which the best epoch is chosen: AP of masks where there are any, else of boxes."""
        return self.box["AP"] if self.mask is None else self.mask["AP"]

    def summary(self) -> dict[str, float]:
        """Return all numbers over all classes by name: ``AP``, ..., and ``mask_AP``, ... where there are masks."""
        return self.box | {f"mask_{name}": value for name, value in (self.mask or {}).items()}


class _Images(Dataset[tuple[Tensor, int]]):
    """Images with their ids, for workers."""

    def __init__(self, dataset: DetectionDataset) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.dataset.image(index), self.dataset.image_id(index)


def detect(
    model: Any,
    dataset: DetectionDataset,
    *,
    category_ids: Sequence[int],
    batch_size: int = 8,
    workers: int = 0,
    device: torch.device | str = "cpu",
    on_batch: Callable[[], None] | None = None,
) -> list[Result]:
    """Run a detector over a data set and return its detections in COCO's results format.

    Where several processes train, each looks at its share of the images, and the first returns the detections of all
    in the order of the images, the others none.

    Args:
        model: a detector of this library; left in evaluation mode.
        dataset: the images.
        category_ids: the data set's id of each label.
        batch_size: images at once.
        workers: processes that read images.
        device: where the model is.
        on_batch: called after each batch; what it raises ends the evaluation.
    """
    mine = range(distributed.rank(), len(dataset), distributed.world_size())
    loader = DataLoader(
        Subset(_Images(dataset), mine),
        batch_size=batch_size,
        num_workers=workers,
        collate_fn=_as_lists,
        worker_init_fn=begin_worker,
        generator=torch.Generator(),  # of its own: evaluating must not move the generator of a training run
    )
    model.eval()
    found: list[list[Result]] = []
    with bar("evaluating", len(loader)) as progress, torch.inference_mode():
        for images, ids in loader:
            outputs = model.detect([image.to(device) for image in images])
            for image, image_id, output in zip(images, ids, outputs, strict=True):
                found.append(to_results(output, image_id, category_ids, image.shape[-2:]))
            progress.advance()
            if on_batch is not None:
                on_batch()
    in_turn = zip_longest(
        *distributed.gather_objects(found), fillvalue=[]
    )  # process k has images k, k + world size, ...
    return [result for images_in_turn in in_turn for image_results in images_in_turn for result in image_results]


def _as_lists(batch: Sequence[tuple[Tensor, int]]) -> tuple[list[Tensor], list[int]]:
    images, ids = zip(*batch, strict=True)
    return list(images), list(ids)


def to_results(
    output: Mapping[str, Tensor], image_id: int, category_ids: Sequence[int], size: Sequence[int]
) -> list[Result]:
    """Turn what a model says of one image into COCO's results format.

    Args:
        output: boxes, labels and scores as torchvision's detectors give them; of mask detectors also crops,
            (D, 1, M, M) in [0, 1]: pixels of the pasted mask from 0.5 on belong to the object.
        image_id: of the image.
        category_ids: the data set's id of each label.
        size: height and width of the image.
    """
    boxes = output["boxes"].cpu().double()
    boxes[:, 2:] -= boxes[:, :2]
    rows = zip(boxes.tolist(), output["labels"].tolist(), output["scores"].tolist(), strict=True)
    results = [
        {"image_id": image_id, "category_id": category_ids[label - 1], "bbox": box, "score": confidence}
        for box, label, confidence in rows
    ]
    if "crops" in output:
        masks = each_mask(output["crops"].cpu(), output["boxes"].cpu(), size)
        for result, mask in zip(results, masks, strict=True):
            result["segmentation"] = encode(mask.numpy())
    return results


def score(
    ground_truth: Mapping[str, Any],
    results: Sequence[Result],
    *,
    split: str = "",
    masks: bool | None = None,
    engine: str | None = None,
) -> Metrics:
    """Compare detections with the ground truth.

    Args:
        ground_truth: a COCO dict, crowd regions included.
        results: detections in COCO's results format; none at all scores zero.
        split: what to call the data.
        masks: whether to score masks too; ``None`` for where the results have them, which none at all cannot show.
        engine: ``"hotcoco"`` or ``"pycocotools"``; ``None`` for what can be imported, in this order.

    Raises:
        UserError: neither can be imported, or masks are to be scored, and detections or the ground truth have none.
    """
    if masks is None:
        masks = any("segmentation" in result for result in results)
    engine = engine or choose_backend()
    names = {category["id"]: category["name"] for category in ground_truth["categories"]}
    box, per_class = _score(engine, ground_truth, results, "bbox", names)
    mask = mask_per_class = None
    if masks:
        require_masks(ground_truth, results)
        mask, mask_per_class = _score(engine, ground_truth, without_boxes(results), "segm", names)
    return Metrics(
        engine=with_version(engine),
        split=split,
        images=len(ground_truth["images"]),
        detections=len(results),
        box=box,
        per_class=per_class,
        mask=mask,
        mask_per_class=mask_per_class,
    )


def _score(
    engine: str, truth: Mapping[str, Any], results: Sequence[Result], kind: Kind, names: Mapping[int, str]
) -> tuple[dict[str, float], dict[str, dict[str, float]]]:
    """Return COCO's twelve numbers, and AP and AP50 by class name."""
    evaluation = make_cocoeval(engine, truth, results, kind)
    numbers = coco_stats(evaluation)
    precision = evaluation.eval["precision"]  # (10 IoUs, 101 recalls, classes, areas, max detections)
    return dict(zip(NUMBERS, numbers, strict=True)), {
        names[category]: {"AP": _mean(precision[:, :, k, 0, -1]), "AP50": _mean(precision[0, :, k, 0, -1])}
        for k, category in enumerate(evaluation.params.catIds)
    }


def without_boxes(results: Sequence[Result]) -> list[Result]:
    """Return detections as masks alone: the area of each, small to large, is then that of its mask."""
    return [{key: value for key, value in result.items() if key != "bbox"} for result in results]


def require_masks(ground_truth: Mapping[str, Any], results: Sequence[Result]) -> None:
    """Raise ``UserError`` where an object or a detection has no segmentation."""
    for what, records in (("object of the ground truth", ground_truth["annotations"]), ("detection", results)):
        for index, record in enumerate(records):
            if not record.get("segmentation"):
                raise UserError(f"The {what} at index {index} has no segmentation, expected one to score masks.")


def _mean(precision: np.ndarray[Any, Any]) -> float:
    """Average the entries that exist; -1 where there is no object of the class."""
    valid = precision[precision > -1]
    return float(valid.mean()) if valid.size else -1.0
