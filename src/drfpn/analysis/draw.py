"""Boxes and masks drawn on images, legible at any size and for colour-blind eyes."""

from collections.abc import Sequence

from PIL import Image, ImageChops, ImageDraw, ImageFilter, ImageFont
from torch import Tensor
from torchvision.transforms.v2.functional import to_pil_image

PALETTE = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#56B4E9", "#F0E442", "#000000")
"""Okabe and Ito's colours: told apart with every kind of colour vision."""
FILL = 0.4
"""Opacity of masks: their colour shows, and the image below does too."""


def draw(
    image: Tensor,
    boxes: Tensor,
    labels: Tensor,
    classes: Sequence[str],
    scores: Tensor | None = None,
    *,
    masks: Tensor | None = None,
    min_side: int = 480,
) -> Image.Image:
    """Draw boxes with class names and scores, over translucent masks.

    Args:
        image: uint8 (3, H, W).
        boxes: (N, 4), x1, y1, x2, y2 in pixels.
        labels: (N,), 1..K.
        classes: name of each class.
        scores: (N,), 0..1; without them only names are written.
        masks: (N, H, W), true inside; filled and outlined in the colour of the box.
        min_side: smaller images are enlarged to this shorter side, so that the text can be read.

    Returns:
        An RGB picture.
    """
    picture = to_pil_image(image).convert("RGB")
    zoom = max(1.0, min_side / min(picture.size))
    if zoom > 1:
        picture = picture.resize((round(picture.width * zoom), round(picture.height * zoom)), Image.Resampling.LANCZOS)
    pen = ImageDraw.Draw(picture)
    line = max(2, round(min(picture.size) / 240))
    font = ImageFont.load_default(size=max(13, min(picture.size) // 34))

    taken: list[tuple[float, float, float, float]] = []
    order = boxes.new_zeros(len(boxes)) if scores is None else scores
    for i in order.argsort(stable=True).tolist() if masks is not None else ():  # the best last, on top
        assert masks is not None
        _fill(picture, masks[i], PALETTE[(int(labels[i]) - 1) % len(PALETTE)], line)
    for i in order.argsort(stable=True).tolist():
        box = [value * zoom for value in boxes[i].tolist()]
        colour = PALETTE[(int(labels[i]) - 1) % len(PALETTE)]
        pen.rectangle(box, outline="white", width=line + 2)
        pen.rectangle(
            [box[0] + 1, box[1] + 1, box[2] - 1, box[3] - 1] if _fits(box) else box, outline=colour, width=line
        )
    for i in order.argsort(stable=True, descending=True).tolist():  # the best first choose the place of their text
        box = [value * zoom for value in boxes[i].tolist()]
        name = classes[int(labels[i]) - 1]
        text = name if scores is None else f"{name} {scores[i]:.2f}"
        _write(pen, picture.size, box, text, PALETTE[(int(labels[i]) - 1) % len(PALETTE)], font, taken)
    return picture


def _fill(picture: Image.Image, mask: Tensor, colour: str, line: int) -> None:
    """Tint a mask (H, W) on a picture of any size, and draw its edge inside of it."""
    shape = Image.fromarray(mask.bool().cpu().numpy()).convert("L").resize(picture.size, Image.Resampling.BILINEAR)
    shape = shape.point([0] * 128 + [255] * 128)
    region = shape.getbbox()
    if region is None:
        return
    left, top, right, bottom = region
    shape = shape.crop((left - line, top - line, right + line, bottom + line))  # beyond the picture it adds zeros
    edge = ImageChops.subtract(shape, shape.filter(ImageFilter.MinFilter(2 * line - 1)))
    alpha = ImageChops.lighter(shape.point([round(FILL * value) for value in range(256)]), edge)
    picture.paste(colour, (left - line, top - line), alpha)


def _fits(box: Sequence[float]) -> bool:
    return box[2] - box[0] > 3 and box[3] - box[1] > 3


def _write(
    pen: ImageDraw.ImageDraw,
    size: tuple[int, int],
    box: Sequence[float],
    text: str,
    colour: str,
    font: ImageFont.FreeTypeFont | ImageFont.ImageFont,
    taken: list[tuple[float, float, float, float]],
) -> None:
    """Write ``text`` at a corner of ``box`` where no other text stands; leave it out if all are taken."""
    left, top, right, bottom = pen.textbbox((0, 0), text, font=font)
    left, top = int(left), int(top)
    width, height = int(right) - left + 7, int(bottom) - top + 7
    for x, y in (
        (box[0], box[1] - height),
        (box[0], box[3]),
        (box[0], box[1]),
        (box[2] - width, box[3] - height),
        (box[2] - width, box[1] - height),
    ):
        # whole pixels: Pillow cuts glyphs off at fractions
        x = round(min(max(x, 0), size[0] - width))
        y = round(min(max(y, 0), size[1] - height))
        label = (x, y, x + width, y + height)
        if all(_apart(label, other) for other in taken):
            taken.append(label)
            pen.rectangle(label, fill=colour)
            ink = "black" if colour in ("#E69F00", "#56B4E9", "#F0E442", "#CC79A7") else "white"
            pen.text((x + 3 - left, y + 3 - top), text, fill=ink, font=font)
            return


def _apart(a: Sequence[float], b: Sequence[float]) -> bool:
    return a[2] <= b[0] or b[2] <= a[0] or a[3] <= b[1] or b[3] <= a[1]


def side_by_side(pictures: Sequence[Image.Image], titles: Sequence[str], gap: int = 12) -> Image.Image:
    """Put pictures of one height next to each other, each under its title."""
    font = ImageFont.load_default(size=20)
    height = max(picture.height for picture in pictures)
    width = sum(picture.width for picture in pictures) + gap * (len(pictures) - 1)
    sheet = Image.new("RGB", (width, height + 34), "white")
    pen = ImageDraw.Draw(sheet)
    x = 0
    for picture, title in zip(pictures, titles, strict=True):
        sheet.paste(picture, (x, 34))
        pen.text((x + 4, 5), title, fill="black", font=font)
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
