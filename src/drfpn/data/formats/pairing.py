"""Which image an annotation file annotates: by its own name, and by the name of the image that it states."""

from collections.abc import Iterator
from pathlib import Path

from drfpn.data.formats.files import FileIndex, base_name
from drfpn.data.image_formats import is_image_file
from drfpn.data.validation.issues import Issue, IssueHandler


class ImageChooser:
    """Chooses the image of each annotation file, and an image for no two of them.

    The image has the name of the annotation file but for its suffix; letter case, Unicode form (NFC or NFD) or the
    folders before it may differ if only one image fits. The name may also be that of the image with its suffix:
    a.jpg.xml. Of several such images it is the one that the file states.
    If there is none, it is the image that the file states, unless another file has that one's name.

    Args:
        images: all images.
        annotations: all annotation files.
        key_word: what states the image: "<filename>".
        on_issue: called with each issue.
    """

    def __init__(self, images: FileIndex, annotations: FileIndex, key_word: str, on_issue: IssueHandler) -> None:
        self.images = images
        self.annotations = annotations
        self.key_word = key_word
        self.on_issue = on_issue
        self._taken: dict[str, Path] = {}

    def choose(self, key: str, file: Path, stated: str | None, *, listed: str | None = None) -> str | None:
        """Return the path of the image from the folder of images, or the path that a missing one should have.

        ``None`` if it cannot be told which image it is; an issue has been reported then.

        Args:
            key: key of the annotation file, or of the image if it has none.
            file: the annotation file.
            stated: name or path of the image as the annotation file states it.
            listed: path of the image as a list of the split states it, with its suffix.
        """
        image_key = self.images.match(key)
        if image_key is None and self.annotations.match_base(key) is not None:
            image_key = self.images.match_base(key)
        candidates = self.images.files[image_key] if image_key is not None else []
        if image_key is None and (named := self.images.find(key)) is not None:
            candidates = [named]
        stated_image = self._find(stated, image_key or key, anywhere=not candidates) if stated else None
        if listed is not None and listed in candidates:
            image = self._check_stated(listed, stated_image, file)
        elif not candidates:
            image = (
                stated_image
                if stated_image is not None and self._annotation_of(stated_image) in (None, key)
                else _path(key, listed or stated)
            )
        elif len(candidates) == 1:
            image = self._check_stated(candidates[0], stated_image, file)
        elif stated_image in candidates:
            image = stated_image
        else:
            expected = f"one of them, or its name in {self.key_word}"
            self.on_issue(Issue("image-ambiguous", str(file), f"it could be of {_quote(candidates)}", expected))
            return None
        return self._take(image, file)

    def _find(self, stated: str, key: str, *, anywhere: bool) -> str | None:
        """Return the path of the image that is stated: a path from the folder of images, or a name beside ``key``."""
        path, folder, name = stated.replace("\\", "/"), key.rpartition("/")[0], base_name(stated)
        beside = f"{folder}/{name}" if folder else name
        for candidate in (path, beside) if "/" in path else (beside, path):
            if is_image_file(Path(candidate)) and (image := self.images.find(candidate)) is not None:
                return image
        if not anywhere or not is_image_file(Path(name)):
            return None
        base = self.images.match_base(name.removesuffix(Path(name).suffix))
        return None if base is None else self.images.find(f"{base}{Path(name).suffix}")

    def _check_stated(self, image: str, stated: str | None, file: Path) -> str | None:
        """Return an image if the file states no other one that exists."""
        if stated is None or stated == image:
            return image
        observed = f"its {self.key_word} is '{stated}', but its own name is that of '{image}'"
        own = self._annotation_of(stated)
        if own is not None and own != self._annotation_of(image):  # a copy whose text was left as it was
            self.on_issue(Issue("image-name-differs", str(file), observed, f"'{image}'", fatal=False))
            return image
        self.on_issue(Issue("image-ambiguous", str(file), observed, "the same image, or only one of them on disk"))
        return None

    def _annotation_of(self, image: str) -> str | None:
        """Return the key of the annotation file that has the name of an image."""
        key = image.removesuffix(Path(image).suffix)
        own = self.annotations.match(key) or self.annotations.match_base(key)
        if own is None and self.images.match(image) is None:  # else it is the one of a.jpg.png
            return self.annotations.match(image)
        return own

    def _take(self, image: str | None, file: Path) -> str | None:
        if image is None:
            return None
        first = self._taken.setdefault(image, file)
        if first == file:
            return image
        self.on_issue(Issue("image-ambiguous", str(file), f"'{first}' annotates '{image}' too", "one file an image"))
        return None


def _path(key: str, name: str | None) -> str:
    """Return the path of the image of ``key`` with the suffix of ``name``."""
    suffix = Path(base_name(name or "")).suffix
    return f"{key}{suffix}" if is_image_file(Path(f"a{suffix}")) else f"{key}.jpg"


def _quote(names: list[str]) -> str:
    return " or ".join(f"'{name}'" for name in names)


def unannotated_images(images: FileIndex, used: set[str]) -> Iterator[Issue]:
    """Yield an issue for each image that no annotation file annotates, in a data set without lists.

    Args:
        images: all images.
        used: paths of the annotated ones, from the folder of images.
    """
    for name in sorted(name for names in images.files.values() for name in names if name not in used):
        observed = "no annotation or list names it"
        yield Issue("unused-image", str(images.folder / name), observed, "an annotation file of its name", fatal=False)
