"""A simulated device for tests without a GPU: tensors with values on the CPU that report another device.

Code that branches on the device takes the path that it takes on a GPU, values and gradients are real, tensors of two
devices cannot be mixed, and every operation that makes the host wait for a GPU is counted: reading a value, a result
whose size depends on values, a copy between the devices. Not simulated: the kernels of a GPU, its autocast, and
branches on the device type "cuda".
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
DEVICE = "meta"  # the only device besides the CPU in every build of torch, with gradients
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
    """A tensor on the simulated device; ``on_cpu`` holds its values."""

    on_cpu: Tensor
    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]

    @staticmethod
    def __new__(cls, on_cpu: Tensor) -> "SimulatedTensor":
        options = {"dtype": on_cpu.dtype, "layout": on_cpu.layout, "storage_offset": on_cpu.storage_offset()}
        simulated = Tensor._make_wrapper_subclass(cls, on_cpu.shape, strides=on_cpu.stride(), device=DEVICE, **options)
        simulated.on_cpu = on_cpu
        return simulated

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return SimulatedDevice.now.run(func, args, kwargs or {})


class SimulatedDevice(TorchDispatchMode):
    """Runs operators; ``waits`` counts host waits by kind and line, ``kernels`` operators other than views."""

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
        has_simulated = any(isinstance(tensor, SimulatedTensor) for tensor in tensors)
        device = kwargs.get("device")
        to_simulated = has_simulated if device is None else torch.device(device).type == DEVICE
        if not has_simulated and not to_simulated:
            return func(*args, **kwargs)
        self.kernels += not func.is_view
        self._check(func, args, kwargs, tensors, to_simulated)
        cpu_args, cpu_kwargs = tree_map(lambda x: x.on_cpu if isinstance(x, SimulatedTensor) else x, (args, kwargs))
        out = func(*cpu_args, **cpu_kwargs | ({"device": "cpu"} if device is not None else {}))
        if not to_simulated or func is aten._local_scalar_dense.default:
            return out
        out = tree_map(
            lambda x: SimulatedTensor(x) if isinstance(x, Tensor) and not isinstance(x, SimulatedTensor) else x, out
        )
        return return_and_correct_aliasing(func, args, kwargs, out) if has_simulated else out

    def _check(self, func: Any, args: Any, kwargs: Any, tensors: list[Tensor], to_simulated: bool) -> None:
        name = func.overloadpacket.__name__
        if name in ("_to_copy", "copy_"):
            target = isinstance(tensors[0], SimulatedTensor) if name == "copy_" else to_simulated
            if isinstance(tensors[-1], SimulatedTensor) != target and not kwargs.get("non_blocking"):
                self.wait("copy")
            return
        if name in READS or name in SIZES:
            self.wait("read")
        elif name in ("index", "index_put_", "index_put", "_index_put_impl_"):
            masks = [i for i in args[1] if i is not None and i.dtype in (torch.bool, torch.uint8)]
            is_fill = name != "index" and args[2].numel() == 1 and len(args[1]) == 1  # that is masked_fill
            if masks and not is_fill:
                self.wait("read")
        if any(t.device.type == DEVICE and not isinstance(t, SimulatedTensor) for t in tensors):
            raise RuntimeError(f"{func} has a tensor without values, made outside of dispatch, at {_location()}")
        cpu_tensors = [t for t in tensors if not isinstance(t, SimulatedTensor) and t.dim() > 0]
        if cpu_tensors and name not in ("index", "index_put_", "index_put"):
            raise RuntimeError(f"{func} has a tensor on the CPU, {tuple(cpu_tensors[0].shape)}, at {_location()}")

    def wait(self, kind: str) -> None:
        self.waits[f"{kind} {_location()}"] += 1


class _Makers(TorchFunctionMode):
    """Counts the copies of ``torch.tensor`` and of lists as indices, which are not dispatched."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        name = getattr(func, "__name__", "")
        creates = name in ("tensor", "as_tensor") and not isinstance(args[0], Tensor)
        if creates and kwargs.get("device") is not None and torch.device(kwargs["device"]).type == DEVICE:
            kwargs["device"] = "cpu"
        elif name == "__getitem__" and isinstance(args[0], SimulatedTensor) and isinstance(args[1], tuple):
            lists = [isinstance(part, list) for part in args[1]]
            SimulatedDevice.now.waits.update({f"copy {_location()}": sum(lists)} if any(lists) else {})
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


def _location() -> str:
    """Return the line that waits; if it is torchvision's, also the innermost line of drfpn in the stack."""
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
