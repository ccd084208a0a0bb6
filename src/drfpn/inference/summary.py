"""Numbers of a prediction of many files."""

from dataclasses import dataclass, field


@dataclass
class PredictionSummary:
    """Numbers of files, frames and detections of :func:`predict_files`."""

    images: int = 0
    """Number of images."""
    videos: int = 0
    """Number of videos, without those that were broken."""
    frames: int = 0
    """Number of frames of videos that the detector was run on."""
    detections: int = 0
    """Number of detections of the first detector, in images and frames, before the score threshold."""
    failed: list[str] = field(default_factory=list)
    """Files that could not be read."""
    remarks: list[str] = field(default_factory=list)
    """A sentence for each image that is read otherwise than one may expect: of several pages only the first is."""
    compared: dict[str, int] | None = None
    """Counts of ``compare.json`` over all images (``both``, ``only_left``, ``only_right``); ``None``: one detector."""
    missing_shards: int | None = None
    """Shards that are not finished; 0: the results of all are merged; ``None``: the files were not divided."""

    @property
    def files(self) -> int:
        """Number of files, with those that could not be read."""
        return self.images + self.videos + len(self.failed)

    def add(self, other: "PredictionSummary") -> None:
        """Add the numbers of another part of the files.

        Args:
            other: summary of the files that follow.
        """
        self.images += other.images
        self.videos += other.videos
        self.frames += other.frames
        self.detections += other.detections
        self.failed += other.failed
        self.remarks += other.remarks
        if other.compared is not None:
            mine = self.compared or {}
            self.compared = {key: mine.get(key, 0) + value for key, value in other.compared.items()}
