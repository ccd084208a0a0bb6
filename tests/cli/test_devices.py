"""Choice of the device of a process, and its error messages."""

import pytest
import torch
import torchvision

from drfpn.cli.app import app
from drfpn.cli.common import choose_device, choose_gpu
from drfpn.cli.doctor import check_device
from drfpn.cli.hints import parameters_of, render
from drfpn.utils.errors import UsageError, UserError, out_of_memory_message


def test_alone_a_process_takes_the_gpu_that_is_wanted_or_the_first() -> None:
    assert choose_gpu(None, count=2, local_rank=0, local_world_size=1) == 0
    assert choose_gpu(1, count=2, local_rank=0, local_world_size=1) == 1


def test_together_each_process_takes_its_own() -> None:
    assert [choose_gpu(None, count=4, local_rank=rank, local_world_size=3) for rank in range(3)] == [0, 1, 2]


def test_more_processes_than_gpus_are_refused(monkeypatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    with pytest.raises(
        UserError, match="4 processes were started on this machine, which has 1 GPU: start at most"
    ) as e:
        choose_gpu(None, count=1, local_rank=0, local_world_size=4)
    assert isinstance(e.value, UsageError)


def test_a_process_that_was_told_to_see_one_gpu_takes_it(monkeypatch) -> None:
    """As by torchrun --virtual-local-rank, or where SLURM binds a GPU to each task."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    assert choose_gpu(None, count=1, local_rank=2, local_world_size=4) == 0
    assert choose_gpu(0, count=1, local_rank=2, local_world_size=4) == 0


def test_one_gpu_for_several_processes_is_refused_with_what_would_do() -> None:
    with pytest.raises(UserError, match=r"cuda:1 is one GPU for 2 processes: use --device cuda"):
        choose_gpu(1, count=2, local_rank=0, local_world_size=2)


def test_a_device_that_is_not_there_is_named() -> None:
    assert choose_device("cpu") == torch.device("cpu")
    for name in ("cuda:99", "gpu"):
        with pytest.raises(UserError, match=f"There is no device '{name}'"):
            choose_device(name)


@pytest.mark.slow
def test_doctor_compares_a_training_step_on_a_device_with_the_cpus(monkeypatch) -> None:
    check_device(torch.device("cpu"))
    kept = torchvision.ops.nms
    monkeypatch.setattr(torchvision.ops, "nms", lambda boxes, scores, iou: kept(boxes, scores, iou)[:1])
    with pytest.raises(AssertionError, match="NMS on cpu keeps wrong boxes"):
        check_device(torch.device("cpu"))


@pytest.mark.slow
def test_doctor_names_a_device_whose_loss_is_another(monkeypatch) -> None:
    backward = torch.Tensor.backward
    calls = []

    def wrong(loss: torch.Tensor) -> None:
        calls.append(loss)
        backward(loss if len(calls) == 1 else 2 * loss)

    monkeypatch.setattr(torch.Tensor, "backward", wrong)
    with pytest.raises(AssertionError, match="on cpu the gradient's norm of a training step is"):
        check_device(torch.device("cpu"))


def test_out_of_memory_is_one_sentence_with_what_to_change() -> None:
    error = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total of 8 GiB.")
    message = render(out_of_memory_message(error), parameters_of(app, ["train"]))
    assert "\n" not in message
    assert "(tried to allocate 2.00 GiB)" in message
    for option in ("-o batch_size=N", "-o grad_accum_steps=N", "-o min_size=N", "-o amp=bf16", "--device cpu"):
        assert option in message
