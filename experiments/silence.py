"""AP of trained DRFPN detectors with one module disabled at a time, without retraining.

``python experiments/silence.py RUN... --data DATA [--split val]``, for runs of DRFPN with ``convention=paper``. A
loss of AP shows that the detector relies on a module, not that a detector trained without it would be worse.
"""

import argparse
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import nn

from drfpn.data import open_dataset
from drfpn.evaluation import detect, evaluate_results
from drfpn.necks.drfpn.crb import ChannelRefinement, ChannelRefinementBlock
from drfpn.necks.drfpn.ppm import PyramidPoolingModule
from drfpn.necks.drfpn.srb import SpatialRefinementBlock
from drfpn.training import load_detector

Block = TypeVar("Block", bound=nn.Module)


def main() -> None:
    """Print AP of each run, and its change with each module disabled."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="+")
    parser.add_argument("--data", required=True)
    parser.add_argument("--split", default="val")
    options = parser.parse_args()
    dataset = open_dataset(options.data, options.split)

    def ap(model: Any) -> float:
        detections = detect(model, dataset, batch_size=8, category_ids=dataset.category_ids)
        return 100 * evaluate_results(dataset.ground_truth(), detections, split=options.split).summary()["AP"]

    changes: dict[str, list[float]] = {name: [] for name in ABLATIONS}
    for run in options.runs:
        model, _ = load_detector(run / "last.safetensors")
        whole = ap(model)
        for name, disable in ABLATIONS.items():
            model, _ = load_detector(run / "last.safetensors")
            with torch.no_grad():
                disable(model, partial(ap, model))
            changes[name].append(ap(model) - whole)
        print(
            f"{run.name}: AP {whole:.1f}; " + ", ".join(f"{name} {values[-1]:+.1f}" for name, values in changes.items())
        )
    for name, values in changes.items():
        print(f"{name:34} {np.mean(values):+6.1f} ({min(values):+.1f} to {max(values):+.1f})")


def blocks(model: nn.Module, block_type: type[Block]) -> Iterator[Block]:
    """Return the modules of a type."""
    return (module for module in model.modules() if isinstance(module, block_type))


def zero(*parameters: Any) -> None:
    """Set the parameters to zero that are not ``None``."""
    for parameter in parameters:
        if parameter is not None:
            parameter.zero_()


class Constant(nn.Module):
    """Gates that do not depend on the input."""

    def __init__(self, gates: torch.Tensor) -> None:
        super().__init__()
        self.gates = gates

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the gates for averages (N, C, 1, 1)."""
        return self.gates.expand(x.shape)


def no_offsets(model: nn.Module, _: Callable[[], float]) -> None:
    """Set SRB's offsets to zero, so that it samples as bilinear upsampling does."""
    for srb in blocks(model, SpatialRefinementBlock):
        zero(srb.offset.weight)


def no_weights(model: nn.Module, _: Callable[[], float]) -> None:
    """Set SRB's omega to zero, which leaves nearest-neighbor upsampling."""
    for srb in blocks(model, SpatialRefinementBlock):
        head: Any = srb.weight
        zero(head[2].weight, head[2].bias)


def fixed_gates(model: nn.Module, evaluate: Callable[[], float]) -> None:
    """Set each gate of CRB to its mean over all images."""
    refinements = list(blocks(model, ChannelRefinement))
    recorded: list[list[torch.Tensor]] = [[] for _ in refinements]
    hooks = [
        part.gate.register_forward_hook(lambda module, inputs, out, into=into: into.append(out.mean(0)[:, 0, 0]))
        for part, into in zip(refinements, recorded, strict=True)
    ]
    evaluate()
    for hook in hooks:
        hook.remove()
    for part, gates in zip(refinements, recorded, strict=True):
        part.gate = Constant(torch.stack(gates).mean(0)[:, None, None])


def open_gates(model: nn.Module, _: Callable[[], float]) -> None:
    """Set all gates of CRB to 1."""
    for part in blocks(model, ChannelRefinement):
        part.gate = Constant(torch.ones(1, 1, 1))


def no_finer_map(model: nn.Module, _: Callable[[], float]) -> None:
    """Set CRB's downsampled finer map to zero, which leaves the refined coarser map."""
    for crb in blocks(model, ChannelRefinementBlock):
        zero(crb.down.weight, crb.down.bias)


def no_averages(model: nn.Module, _: Callable[[], float]) -> None:
    """Set PPM's pooled branches to zero, which leaves the reduced map."""
    for ppm in blocks(model, PyramidPoolingModule):
        for branch in ppm.branches:
            zero(branch.weight)


ABLATIONS: dict[str, Callable[[nn.Module, Callable[[], float]], None]] = {
    "SRB without offsets": no_offsets,
    "SRB without the sampled map": no_weights,
    "CRB, gates fixed at their means": fixed_gates,
    "CRB, gates open": open_gates,
    "CRB without the finer map": no_finer_map,
    "PPM without averages": no_averages,
}
"""Functions of the model, and of a function that evaluates it on all images."""

if __name__ == "__main__":
    main()
