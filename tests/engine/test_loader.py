import torch
from torch.utils.data import DataLoader

from drfpn.data import ShapesDataset
from drfpn.data.transforms import TransformedDataset, basic, collate
from drfpn.engine.loader import SeededSampler


def batches(workers: int, epoch: int = 0, seed: int = 0) -> list[torch.Tensor]:
    sampler = SeededSampler(6, seed)
    sampler.epoch = epoch
    dataset = TransformedDataset(ShapesDataset("train", 6), basic())
    loader = DataLoader(dataset, batch_size=2, sampler=sampler, num_workers=workers, collate_fn=collate)
    return [image for images, _, _ in loader for image in images]


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
    flipped, moved, _ = TransformedDataset(dataset, basic(flip=1.0))[index, 0]
    width = image.shape[-1]
    torch.testing.assert_close(flipped, image.flip(-1) / 255)
    expected = target["boxes"].clone()
    expected[:, [0, 2]] = width - target["boxes"][:, [2, 0]]
    torch.testing.assert_close(moved["boxes"], expected)
    torch.testing.assert_close(moved["labels"], target["labels"])
