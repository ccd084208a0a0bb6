"""A simulated device for tests without a GPU: tensors whose values lie on the CPU while their device says otherwise.

Code that asks for the device takes the path that it takes on a GPU, values and gradients are real, tensors of two
devices cannot be mixed, and every operation is counted that makes the host wait for a GPU: a value that is read, a
result whose size depends on values, a copy between the devices. Not simulated: which kernels a GPU has, what its
autocast lowers, and branches that ask for "cuda" by name.
"""

import traceback
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_leaves, tree_map

aten = torch.ops.aten
DEVICE = "meta"  # the one device besides the CPU that every build has, with gradients
READS = ("_local_scalar_dense", "is_nonzero", "equal")
SIZES = (
    "nonzero",
    "masked_select",
    "_unique2",
    "unique_dim",
    "unique_consecutive",
    "nms",
    "repeat_interleave",
    "bincount",
)


class SimulatedTensor(Tensor):
    """A tensor on that device; ``on_cpu`` holds its values."""

    on_cpu: Tensor
    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]

    @staticmethod
    def __new__(cls, on_cpu: Tensor) -> "SimulatedTensor":
        kinds = {"dtype": on_cpu.dtype, "layout": on_cpu.layout, "storage_offset": on_cpu.storage_offset()}
        there = Tensor._make_wrapper_subclass(cls, on_cpu.shape, strides=on_cpu.stride(), device=DEVICE, **kinds)
        there.on_cpu = on_cpu
        return there

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return SimulatedDevice.now.run(func, args, kwargs or {})


class SimulatedDevice(TorchDispatchMode):
    """Runs operators; ``waits`` counts what makes the host wait, by kind and line, ``kernels`` all but views."""

    now: "SimulatedDevice"

    def __init__(self) -> None:
        super().__init__()
        self.waits: Counter[str] = Counter()
        self.kernels = 0
        SimulatedDevice.now = self

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return self.run(func, args, kwargs or {})

    def run(self, func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        there = any(isinstance(tensor, SimulatedTensor) for tensor in tensors)
        asked = kwargs.get("device")
        goes = there if asked is None else torch.device(asked).type == DEVICE
        if not there and not goes:
            return func(*args, **kwargs)
        self.kernels += not func.is_view
        self._look(func, args, kwargs, tensors, goes)
        cpu_args, cpu_kwargs = tree_map(lambda x: x.on_cpu if isinstance(x, SimulatedTensor) else x, (args, kwargs))
        out = func(*cpu_args, **cpu_kwargs | ({"device": "cpu"} if asked is not None else {}))
        if not goes or func is aten._local_scalar_dense.default:
            return out
        out = tree_map(
            lambda x: SimulatedTensor(x) if isinstance(x, Tensor) and not isinstance(x, SimulatedTensor) else x, out
        )
        return return_and_correct_aliasing(func, args, kwargs, out) if there else out

    def _look(self, func: Any, args: Any, kwargs: Any, tensors: list[Tensor], goes: bool) -> None:
        name = func.overloadpacket.__name__
        if name in ("_to_copy", "copy_"):
            target = isinstance(tensors[0], SimulatedTensor) if name == "copy_" else goes
            if isinstance(tensors[-1], SimulatedTensor) != target and not kwargs.get("non_blocking"):
                self.wait("copy")
            return
        if name in READS or name in SIZES:
            self.wait("read")
        elif name in ("index", "index_put_", "index_put", "_index_put_impl_"):
            masks = [i for i in args[1] if i is not None and i.dtype in (torch.bool, torch.uint8)]
            filled = name != "index" and args[2].numel() == 1 and len(args[1]) == 1  # then it is masked_fill
            if masks and not filled:
                self.wait("read")
        if any(t.device.type == DEVICE and not isinstance(t, SimulatedTensor) for t in tensors):
            raise RuntimeError(f"{func} has a tensor without numbers, made where this is not seen, at {_place()}")
        strangers = [t for t in tensors if not isinstance(t, SimulatedTensor) and t.dim() > 0]
        if strangers and name not in ("index", "index_put_", "index_put"):
            raise RuntimeError(f"{func} has a tensor of the CPU, {tuple(strangers[0].shape)}, at {_place()}")

    def wait(self, kind: str) -> None:
        self.waits[f"{kind} {_place()}"] += 1


class _Makers(TorchFunctionMode):
    """``torch.tensor`` builds on the CPU and copies, which dispatch does not see."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        name = getattr(func, "__name__", "")
        made = name in ("tensor", "as_tensor") and not isinstance(args[0], Tensor)
        if made and kwargs.get("device") is not None and torch.device(kwargs["device"]).type == DEVICE:
            kwargs["device"] = "cpu"
        elif name == "__getitem__" and isinstance(args[0], SimulatedTensor) and isinstance(args[1], tuple):
            lists = [isinstance(part, list) for part in args[1]]
            SimulatedDevice.now.waits.update({f"copy {_place()}": sum(lists)} if any(lists) else {})
            index = tuple(
                SimulatedTensor(torch.tensor(part)) if listed else part
                for part, listed in zip(args[1], lists, strict=True)
            )
            return func(args[0], index)
        elif name == "new_tensor" and isinstance(args[0], SimulatedTensor):
            func, kwargs, args = torch.tensor, {"dtype": args[0].dtype} | kwargs, args[1:]
        else:
            return func(*args, **kwargs)
        SimulatedDevice.now.wait("copy")
        with torch._C.DisableTorchFunction():
            return SimulatedTensor(func(*args, **kwargs))


def _place() -> str:
    """Return the line that waits, and the innermost one of drfpn above it where it is torchvision's."""
    frames = [f for f in traceback.extract_stack() if "/drfpn/" in f.filename or "/torchvision/" in f.filename]
    ours = [f for f in frames if "/drfpn/" in f.filename]
    shown = dict.fromkeys(f"{f.filename.rsplit('/', 1)[-1]}:{f.lineno}" for f in [*frames[-1:], *ours[-1:]])
    return " < ".join(shown) or "the test"


@contextmanager
def simulated_device() -> Iterator[SimulatedDevice]:
    """Let operators run on the simulated device, whose generators are the CPU's."""
    generator = torch.Generator

    def on_cpu(device: Any = "cpu") -> torch.Generator:
        return generator()

    with mock.patch.object(torch, "Generator", on_cpu), _Makers(), SimulatedDevice() as mode:
        yield mode


def to_device(value: Any) -> Any:
    """Return tensors, in whatever dict or list, on the device; a module is moved in place."""
    if not isinstance(value, nn.Module):
        return tree_map(lambda x: SimulatedTensor(x) if isinstance(x, Tensor) else x, value)
    for module in value.modules():
        for name, parameter in module._parameters.items():
            if parameter is not None:
                module._parameters[name] = nn.Parameter(SimulatedTensor(parameter.data), parameter.requires_grad)
        module._buffers |= {name: to_device(buffer) for name, buffer in module._buffers.items()}
    return value


def to_cpu(value: Any) -> Any:
    """Return tensors with their values on the CPU."""
    return tree_map(lambda x: x.on_cpu if isinstance(x, SimulatedTensor) else x, value)
