"""What the parts of a trained DRFPN do for its AP: each is silenced in turn, and nothing is trained again.

``python experiments/silence.py RUN... --data DATA [--split val]``, for runs of DRFPN in the paper's convention. A part
that a detector does not use can be silenced for nothing. What is lost with a part says that the detector relies on it,
not that one trained without it would be worse.
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
from drfpn.evaluation import detect, score
from drfpn.necks.drfpn.crb import ChannelRefinement, ChannelRefinementBlock
from drfpn.necks.drfpn.ppm import PyramidPoolingModule
from drfpn.necks.drfpn.srb import SpatialRefinementBlock
from drfpn.training import load_detector

Block = TypeVar("Block", bound=nn.Module)


def main() -> None:
    """Print AP of each run, and how each silenced part changes it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="+")
    parser.add_argument("--data", required=True)
    parser.add_argument("--split", default="val")
    options = parser.parse_args()
    dataset = open_dataset(options.data, options.split)

    def ap(model: Any) -> float:
        found = detect(model, dataset, batch_size=8, category_ids=dataset.category_ids)
        return 100 * score(dataset.ground_truth(), found, split=options.split).summary()["AP"]

    changes: dict[str, list[float]] = {name: [] for name in SILENCERS}
    for run in options.runs:
        model, _ = load_detector(run / "last.safetensors")
        whole = ap(model)
        for name, silence in SILENCERS.items():
            model, _ = load_detector(run / "last.safetensors")
            with torch.no_grad():
                silence(model, partial(ap, model))
            changes[name].append(ap(model) - whole)
        print(f"{run.name}: AP {whole:.1f}; " + ", ".join(f"{name} {gaps[-1]:+.1f}" for name, gaps in changes.items()))
    for name, gaps in changes.items():
        print(f"{name:34} {np.mean(gaps):+6.1f} ({min(gaps):+.1f} to {max(gaps):+.1f})")


def blocks(model: nn.Module, kind: type[Block]) -> Iterator[Block]:
    """Yield the parts of a kind."""
    return (module for module in model.modules() if isinstance(module, kind))


def zero(*parameters: Any) -> None:
    """Set parameters to zero, where there are some."""
    for parameter in parameters:
        if parameter is not None:
            parameter.zero_()


class Constant(nn.Module):
    """Gates that do not depend on anything."""

    def __init__(self, gates: torch.Tensor) -> None:
        super().__init__()
        self.gates = gates

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the gates for averages (N, C, 1, 1)."""
        return self.gates.expand(x.shape)


def no_offsets(model: nn.Module, _: Callable[[], float]) -> None:
    """Have SRB read where bilinear upsampling does."""
    for srb in blocks(model, SpatialRefinementBlock):
        zero(srb.offset.weight)


def no_weights(model: nn.Module, _: Callable[[], float]) -> None:
    """Leave of SRB the nearest upsampling."""
    for srb in blocks(model, SpatialRefinementBlock):
        head: Any = srb.weight
        zero(head[2].weight, head[2].bias)


def fixed_gates(model: nn.Module, look: Callable[[], float]) -> None:
    """Set each gate of CRB to its mean over all images."""
    refinements = list(blocks(model, ChannelRefinement))
    seen: list[list[torch.Tensor]] = [[] for _ in refinements]
    hooks = [
        part.gate.register_forward_hook(lambda module, inputs, out, into=into: into.append(out.mean(0)[:, 0, 0]))
        for part, into in zip(refinements, seen, strict=True)
    ]
    look()
    for hook in hooks:
        hook.remove()
    for part, gates in zip(refinements, seen, strict=True):
        part.gate = Constant(torch.stack(gates).mean(0)[:, None, None])


def open_gates(model: nn.Module, _: Callable[[], float]) -> None:
    """Set all gates of CRB to 1."""
    for part in blocks(model, ChannelRefinement):
        part.gate = Constant(torch.ones(1, 1, 1))


def no_finer_map(model: nn.Module, _: Callable[[], float]) -> None:
    """Leave of CRB the refined coarser map."""
    for crb in blocks(model, ChannelRefinementBlock):
        zero(crb.down.weight, crb.down.bias)


def no_averages(model: nn.Module, _: Callable[[], float]) -> None:
    """Leave of PPM the reduced map."""
    for ppm in blocks(model, PyramidPoolingModule):
        for branch in ppm.branches:
            zero(branch.weight)


SILENCERS: dict[str, Callable[[nn.Module, Callable[[], float]], None]] = {
    "SRB without offsets": no_offsets,
    "SRB without the sampled map": no_weights,
    "CRB, gates fixed at their means": fixed_gates,
    "CRB, gates open": open_gates,
    "CRB without the finer map": no_finer_map,
    "PPM without averages": no_averages,
}
"""By what is left: functions of the model, and of one that has it look at all images."""

if __name__ == "__main__":
    main()
