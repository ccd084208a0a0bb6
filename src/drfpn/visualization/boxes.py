"""Boxes and masks drawn on images, legible at any size and for colour-blind eyes."""

from collections.abc import Sequence

from PIL import Image, ImageChops, ImageDraw, ImageFilter, ImageFont
from torch import Tensor
from torchvision.transforms.v2.functional import to_pil_image

from drfpn.visualization.labels import Label, write_labels

PALETTE = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#56B4E9", "#F0E442", "#000000")
"""Okabe and Ito's colours: told apart with every kind of colour vision."""
GREY = "#808080"
"""What is drawn beside what stands out."""
FILL = 0.4
"""Opacity of masks: their colour shows, and the image below does too."""
MAX_ENLARGED = 1600
"""Longer side in pixels up to which a small image is enlarged: a strip must not become a poster."""


def draw(
    image: Tensor,
    boxes: Tensor,
    labels: Tensor,
    classes: Sequence[str],
    scores: Tensor | None = None,
    *,
    masks: Tensor | Sequence[Tensor] | None = None,
    marked: Tensor | None = None,
    min_side: int = 480,
) -> Image.Image:
    """Draw boxes with class names and scores, over translucent masks. Lines and letters grow with the image.

    Args:
        image: uint8 (3, H, W).
        boxes: (N, 4), x1, y1, x2, y2 in pixels.
        labels: (N,), 1..K.
        classes: name of each class.
        scores: (N,), 0..1; without them only names are written.
        masks: (N, H, W) or as many of (H, W), true inside; filled and outlined in the colour of the box.
        marked: (N,), the ones to stand out; the others are thin and grey, and named where there is room.
        min_side: smaller images are enlarged to this shorter side, so that the text can be read; 0 for never.

    Returns:
        An RGB picture.
    """
    picture = to_pil_image(image).convert("RGB")
    zoom = max(1.0, min(min_side / min(picture.size), MAX_ENLARGED / max(picture.size)))
    if zoom > 1:
        size = (round(picture.width * zoom), round(picture.height * zoom))
        picture = picture.resize(size, Image.Resampling.LANCZOS)
    side = (picture.width * picture.height) ** 0.5
    line = max(1, round(side / 260))
    shown = [True] * len(boxes) if marked is None else marked.tolist()
    colours = [
        PALETTE[(label - 1) % len(PALETTE)] if show else GREY
        for label, show in zip(labels.tolist(), shown, strict=True)
    ]
    order = boxes.new_zeros(len(boxes)) if scores is None else scores
    best_last = sorted(order.argsort(stable=True).tolist(), key=lambda i: shown[i])  # and what is marked, on top
    if masks is not None:
        for i in best_last:
            _fill(picture, masks[i], colours[i], line)
    pen = ImageDraw.Draw(picture)
    places = [[value * zoom for value in box] for box in boxes.tolist()]
    for i in best_last:
        width = max(1, line // 2) if marked is not None and not shown[i] else line
        _outline(pen, picture.size, places[i], colours[i], width)
    write_labels(
        picture,
        [
            Label(
                classes[int(labels[i]) - 1] if scores is None else f"{classes[int(labels[i]) - 1]} {scores[i]:.2f}",
                places[i],
                colours[i],
                must=shown[i],
            )
            for i in sorted(order.argsort(stable=True, descending=True).tolist(), key=lambda i: not shown[i])
        ],
    )
    return picture


def _outline(pen: ImageDraw.ImageDraw, size: tuple[int, int], box: Sequence[float], colour: str, line: int) -> None:
    """Draw a box with a white edge; the line of a tiny one lies outside of it, to show what is in it."""
    x1, y1, x2, y2 = (round(value) for value in box)
    x2, y2 = max(x1, min(x2, size[0] - 1)), max(y1, min(y2, size[1] - 1))
    if min(x2 - x1, y2 - y1) < 6 * line:
        x1, y1, x2, y2 = x1 - line, y1 - line, x2 + line, y2 + line
    halo = max(1, line // 3)
    pen.rectangle((x1 - halo, y1 - halo, x2 + halo, y2 + halo), outline="white", width=halo)
    pen.rectangle((x1, y1, x2, y2), outline=colour, width=line)


def _fill(picture: Image.Image, mask: Tensor, colour: str, line: int) -> None:
    """Tint a mask (H, W) on a picture of any size, and draw its edge inside of it."""
    shape = Image.fromarray(mask.bool().cpu().numpy()).convert("L").resize(picture.size, Image.Resampling.BILINEAR)
    shape = shape.point([0] * 128 + [255] * 128)
    region = shape.getbbox()
    if region is None:
        return
    left, top, right, bottom = region
    shape = shape.crop((left - line, top - line, right + line, bottom + line))  # beyond the picture it adds zeros
    thickness = max(1, line - 1)  # a filter of one pixel ends the process in Pillow 12.3
    edge = ImageChops.subtract(shape, shape.filter(ImageFilter.MinFilter(2 * thickness + 1)))
    alpha = ImageChops.lighter(shape.point([round(FILL * value) for value in range(256)]), edge)
    picture.paste(colour, (left - line, top - line), alpha)


def side_by_side(pictures: Sequence[Image.Image], titles: Sequence[str], gap: int = 12) -> Image.Image:
    """Put pictures of one height next to each other, each under its title."""
    height = max(picture.height for picture in pictures)
    letters = max(20, height // 30)
    above = round(1.7 * letters)
    font = ImageFont.load_default(size=letters)
    width = sum(picture.width for picture in pictures) + gap * (len(pictures) - 1)
    sheet = Image.new("RGB", (width, height + above), "white")
    pen = ImageDraw.Draw(sheet)
    x = 0
    for picture, title in zip(pictures, titles, strict=True):
        pen.text((x + 4, above // 7), title, fill="black", font=font)
        sheet.paste("white", (x + picture.width, 0, sheet.width, above))  # a title ends where its picture does
        sheet.paste(picture, (x, above))
        x += picture.width + gap
    return sheet


def contact_sheet(pictures: Sequence[Image.Image], columns: int = 4, gap: int = 6) -> Image.Image:
    """Lay pictures out in rows, each cell as large as the largest."""
    columns = min(columns, len(pictures))
    rows = -(-len(pictures) // columns)
    width = max(picture.width for picture in pictures) + gap
    height = max(picture.height for picture in pictures) + gap
    sheet = Image.new("RGB", (columns * width - gap, rows * height - gap), "white")
    for i, picture in enumerate(pictures):
        sheet.paste(picture, (i % columns * width, i // columns * height))
    return sheet
