"""Write the weights of a run in half precision, as the web page has them: ``python scripts/halve.py RUN FILE``."""

import sys
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from drfpn.training.checkpoint import find_weights


def main(run: str, file: str) -> None:
    with safe_open(find_weights(Path(run)), "pt") as stream:
        tensors = {name: stream.get_tensor(name) for name in stream.keys()}  # noqa: SIM118  # not a dict
        metadata = stream.metadata()
    halves = {name: value.half() if value.is_floating_point() else value for name, value in tensors.items()}
    for name, value in halves.items():
        if not torch.isfinite(value).all():
            sys.exit(f"{name} is out of the range of half precision")
    save_file(halves, file, metadata=metadata)


if __name__ == "__main__":
    main(*sys.argv[1:])
