"""Images for a visitor who has none at hand."""

from pathlib import Path

from torchvision.transforms.v2.functional import to_pil_image

from drfpn.data import DetectionDataset, open_dataset
from drfpn.training.checkpoint import Card
from drfpn.utils.errors import UserError

NUMBER = 6


def write_examples(card: Card, folder: Path) -> list[Path]:
    """Write a few images that a detector should know: of its own validation split, else synthetic shapes.

    Args:
        card: of the detector.
        folder: where they go, as PNG.
    """
    files = []
    dataset = _images(card)
    for i in range(min(NUMBER, len(dataset))):
        files.append(folder / f"example-{i + 1}.png")
        to_pil_image(dataset.image(i)).save(files[-1])
    return files


def _images(card: Card) -> DetectionDataset:
    try:
        dataset = open_dataset(card.config.data, card.config.val_split, first=NUMBER, on_bad="skip")
        dataset.image(0)
    except (UserError, IndexError):  # the data may be on another machine
        return open_dataset("shapes", "test")
    return dataset
