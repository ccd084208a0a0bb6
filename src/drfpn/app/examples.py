"""Example images of the web page."""

from pathlib import Path

from torchvision.transforms.v2.functional import to_pil_image

from drfpn.data import DetectionDataset, open_dataset
from drfpn.training.checkpoint import Card
from drfpn.utils.errors import UserError

MAX_EXAMPLES = 6


def write_examples(card: Card | None, folder: Path) -> list[Path]:
    """Write up to ``MAX_EXAMPLES`` example images for a detector.

    They are images of the validation split that it was trained with or, if that cannot be read, synthetic shapes.

    Args:
        card: card of the detector; ``None`` for synthetic shapes.
        folder: where to write, as PNG.

    Returns:
        The files.
    """
    files = []
    dataset = _open_examples(card)
    for i in range(min(MAX_EXAMPLES, len(dataset))):
        files.append(folder / f"example-{i + 1}.png")
        to_pil_image(dataset.image(i)).save(files[-1])
    return files


def _open_examples(card: Card | None) -> DetectionDataset:
    if card is None:
        return open_dataset("shapes", "test")
    try:
        config = card.config
        dataset = open_dataset(
            config.data, config.val_split, max_images=MAX_EXAMPLES, on_bad="skip", images=config.images
        )
        dataset.image(0)
    except (UserError, IndexError):  # the data may be on another machine
        return open_dataset("shapes", "test")
    return dataset
