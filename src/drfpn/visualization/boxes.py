"""Boxes and masks drawn on images, with a color-blind safe palette; side-by-side pictures and contact sheets."""

from collections.abc import Sequence

from PIL import Image, ImageChops, ImageDraw, ImageFilter
from torch import Tensor
from torchvision.transforms.v2.functional import to_pil_image

from drfpn.utils.formatting import printable
from drfpn.visualization.fonts import load_font
from drfpn.visualization.labels import Label, write_labels

PALETTE = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#56B4E9", "#F0E442", "#000000")
"""Colors of Okabe and Ito, which can be distinguished with color blindness."""
GRAY = "#808080"
"""Color of boxes that are not highlighted."""
MASK_OPACITY = 0.4
MAX_ENLARGED_SIDE = 1600
"""Longer side up to which a small image is enlarged, pixels; it limits the size of images of extreme aspect ratio."""


def draw_boxes(
    image: Tensor,
    boxes: Tensor,
    labels: Tensor,
    classes: Sequence[str],
    scores: Tensor | None = None,
    *,
    masks: Tensor | Sequence[Tensor] | None = None,
    highlight: Tensor | None = None,
    min_side: int = 480,
) -> Image.Image:
    """Draw boxes with class names and scores, over translucent masks. Line width and font size grow with the image.

    Args:
        image: uint8 (3, H, W).
        boxes: (N, 4), x1, y1, x2, y2 in pixels.
        labels: (N,), 1..K.
        classes: name of each class: label k is ``classes[k - 1]``.
        scores: (N,), in [0, 1]; without them only names are written.
        masks: (N, H, W) or N masks (H, W), bool; filled and outlined in the color of the box.
        highlight: (N,), bool, the boxes to draw in color; the others are thin and gray, and labeled if there is room;
            ``None`` for all.
        min_side: smaller images are enlarged to this shorter side, pixels, so that the text can be read; 0 for never.

    Returns:
        The picture, RGB.
    """
    picture = to_pil_image(image).convert("RGB")
    zoom = max(1.0, min(min_side / min(picture.size), MAX_ENLARGED_SIDE / max(picture.size)))
    if zoom > 1:
        size = (round(picture.width * zoom), round(picture.height * zoom))
        picture = picture.resize(size, Image.Resampling.LANCZOS)
    side = (picture.width * picture.height) ** 0.5
    line = max(1, round(side / 260))
    highlighted = [True] * len(boxes) if highlight is None else highlight.tolist()
    colors = [
        PALETTE[(label - 1) % len(PALETTE)] if in_color else GRAY
        for label, in_color in zip(labels.tolist(), highlighted, strict=True)
    ]
    order = boxes.new_zeros(len(boxes)) if scores is None else scores
    best_last = sorted(order.argsort(stable=True).tolist(), key=lambda i: highlighted[i])  # highlighted boxes on top
    if masks is not None:
        for i in best_last:
            _draw_mask(picture, masks[i], colors[i], line)
    pen = ImageDraw.Draw(picture)
    zoomed = [[value * zoom for value in box] for box in boxes.tolist()]
    for i in best_last:
        width = max(1, line // 2) if highlight is not None and not highlighted[i] else line
        _draw_box(pen, picture.size, zoomed[i], colors[i], width)
    texts = [printable(classes[label - 1]) for label in labels.tolist()]
    if scores is not None:
        texts = [f"{text} {score:.2f}" for text, score in zip(texts, scores.tolist(), strict=True)]
    best_first = sorted(order.argsort(stable=True, descending=True).tolist(), key=lambda i: not highlighted[i])
    write_labels(picture, [Label(texts[i], zoomed[i], colors[i], required=highlighted[i]) for i in best_first])
    return picture


def _draw_box(pen: ImageDraw.ImageDraw, size: tuple[int, int], box: Sequence[float], color: str, line: int) -> None:
    """Draw a box with a white edge; the line of a tiny box is drawn outside of it, to keep its content visible."""
    x1, y1, x2, y2 = (round(value) for value in box)
    x2, y2 = max(x1, min(x2, size[0] - 1)), max(y1, min(y2, size[1] - 1))
    if min(x2 - x1, y2 - y1) < 6 * line:
        x1, y1, x2, y2 = x1 - line, y1 - line, x2 + line, y2 + line
    halo = max(1, line // 3)
    pen.rectangle((x1 - halo, y1 - halo, x2 + halo, y2 + halo), outline="white", width=halo)
    pen.rectangle((x1, y1, x2, y2), outline=color, width=line)


def _draw_mask(picture: Image.Image, mask: Tensor, color: str, line: int) -> None:
    """Fill a mask (H, W), resized to the picture, and draw its outline inside of it."""
    shape = Image.fromarray(mask.bool().cpu().numpy()).convert("L").resize(picture.size, Image.Resampling.BILINEAR)
    shape = shape.point([0] * 128 + [255] * 128)
    bounds = shape.getbbox()
    if bounds is None:
        return
    left, top, right, bottom = bounds
    shape = shape.crop((left - line, top - line, right + line, bottom + line))  # beyond the picture it adds zeros
    thickness = max(1, line - 1)  # a filter of one pixel ends the process in Pillow 12.3
    edge = ImageChops.subtract(shape, shape.filter(ImageFilter.MinFilter(2 * thickness + 1)))
    alpha = ImageChops.lighter(shape.point([round(MASK_OPACITY * value) for value in range(256)]), edge)
    picture.paste(color, (left - line, top - line), alpha)


def side_by_side(pictures: Sequence[Image.Image], titles: Sequence[str], gap: int = 12) -> Image.Image:
    """Place pictures next to each other, each below its title.

    Args:
        pictures: pictures of equal height.
        titles: title of each picture.
        gap: distance between pictures, pixels.
    """
    height = max(picture.height for picture in pictures)
    font_size = max(20, height // 30)
    title_height = round(1.7 * font_size)
    font, escape = load_font(titles, font_size)
    width = sum(picture.width for picture in pictures) + gap * (len(pictures) - 1)
    sheet = Image.new("RGB", (width, height + title_height), "white")
    pen = ImageDraw.Draw(sheet)
    x = 0
    for picture, title in zip(pictures, titles, strict=True):
        pen.text((x + 4, title_height // 7), escape(title), fill="black", font=font)
        sheet.paste(
            "white", (x + picture.width, 0, sheet.width, title_height)
        )  # cuts the title off at the width of its picture
        sheet.paste(picture, (x, title_height))
        x += picture.width + gap
    return sheet


def contact_sheet(pictures: Sequence[Image.Image], columns: int = 4, gap: int = 6) -> Image.Image:
    """Arrange pictures in a grid whose cells have the size of the largest picture.

    Args:
        pictures: the pictures.
        columns: pictures per row.
        gap: distance between cells, pixels.
    """
    columns = min(columns, len(pictures))
    rows = -(-len(pictures) // columns)
    width = max(picture.width for picture in pictures) + gap
    height = max(picture.height for picture in pictures) + gap
    sheet = Image.new("RGB", (columns * width - gap, rows * height - gap), "white")
    for i, picture in enumerate(pictures):
        sheet.paste(picture, (i % columns * width, i // columns * height))
    return sheet
