import pytest
import torch
from torch.utils.data import DataLoader

from drfpn.data import ShapesDataset
from drfpn.data.augment.presets import make_transform
from drfpn.data.augment.transformed_dataset import TransformedDataset, collate
from drfpn.training.sampler import SampleKey, SeededSampler, StepBatchSampler


def basic(flip: float = 0.5):
    return make_transform("basic", hflip_prob=flip, min_size=64, max_size=96)


def batches(workers: int, epoch: int = 0, seed: int = 0) -> list[torch.Tensor]:
    sampler = SeededSampler(6, seed)
    sampler.epoch = epoch
    dataset = TransformedDataset(ShapesDataset("train", 6), basic())
    loader = DataLoader(dataset, batch_size=2, sampler=sampler, num_workers=workers, collate_fn=collate)
    return [image for batch in loader for image in batch.images]


def test_workers_change_nothing() -> None:
    for a, b in zip(batches(0), batches(2), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)


def test_another_epoch_or_seed_is_another_order() -> None:
    order = [list(SeededSampler(50, 0)), list(SeededSampler(50, 1))]
    later = SeededSampler(50, 0)
    later.epoch = 1
    order.append(list(later))
    assert all(sorted(index for index, _ in keys) == list(range(50)) for keys in order)
    assert order[0] != order[1]
    assert order[0] != order[2]


def test_drawing_a_sample_leaves_the_global_generator_alone() -> None:
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    TransformedDataset(ShapesDataset("train", 2), basic())[0, 123]
    torch.testing.assert_close(torch.rand(4), expected)


def test_a_flip_moves_boxes_with_the_image() -> None:
    dataset = ShapesDataset("train", 8)
    index = next(i for i in range(8) if len(dataset[i][1]["boxes"]))
    image, target = dataset[index]
    flipped, moved, *_ = TransformedDataset(dataset, basic(1.0))[index, 0]
    width = image.shape[-1]
    torch.testing.assert_close(flipped, image.flip(-1) / 255)
    expected = target["boxes"].clone()
    expected[:, [0, 2]] = width - target["boxes"][:, [2, 0]]
    torch.testing.assert_close(moved["boxes"], expected)
    torch.testing.assert_close(moved["labels"], target["labels"])


def pieces(
    length: int, batch_size: int, *, grad_accum_steps: int = 1, processes: int = 1
) -> list[list[list[SampleKey]]]:
    """Return for each part of each step the pieces of all processes."""
    each = [
        StepBatchSampler(
            SeededSampler(length, 0), batch_size, grad_accum_steps=grad_accum_steps, rank=rank, world_size=processes
        )
        for rank in range(processes)
    ]
    assert {len(batches) for batches in each} == {each[0].steps_per_epoch * grad_accum_steps}
    return [list(parts) for parts in zip(*each, strict=True)]


@pytest.mark.parametrize(("grad_accum_steps", "processes"), [(1, 2), (2, 1), (2, 2), (1, 4)])
def test_parts_and_processes_share_each_step_that_one_alone_would_take(grad_accum_steps, processes) -> None:
    parts = pieces(10, 4, grad_accum_steps=grad_accum_steps, processes=processes)
    flat = [[key for piece in part for key in piece] for part in parts]
    steps = [
        [key for part in flat[i : i + grad_accum_steps] for key in part] for i in range(0, len(flat), grad_accum_steps)
    ]
    alone = [step for (step,) in pieces(10, 4)]
    assert steps[:2] == alone[:2]
    assert steps[2][:2] == alone[2]  # the last step is filled up until its pieces are equal
    assert len({len(piece) for part in parts[-grad_accum_steps:] for piece in part}) == 1
    assert len(steps[2]) < 2 + grad_accum_steps * processes


def test_a_start_in_the_middle_of_an_epoch_leaves_out_what_is_done() -> None:
    batches = StepBatchSampler(SeededSampler(10, 0), 2, grad_accum_steps=2)
    batches.set_epoch(3)
    whole = list(batches)
    batches.set_epoch(3, first_step=2)
    assert list(batches) == whole[4:]
    assert len(batches) == len(whole) - 4
    batches.set_epoch(4)
    assert list(batches) != whole


def test_drawing_a_sample_leaves_the_generators_of_gpus_alone(monkeypatch) -> None:
    """torch.manual_seed would set them too, and nothing sets them back."""
    seeded = []
    monkeypatch.setattr(torch.cuda, "manual_seed_all", seeded.append)
    TransformedDataset(ShapesDataset("train", 2), basic())[0, 123]
    assert not seeded
