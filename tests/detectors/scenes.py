import torch
from torch import Tensor, nn


def scene(*sizes: tuple[int, int], objects: int = 2) -> tuple[list[Tensor], list[dict[str, Tensor]]]:
    generator = torch.Generator().manual_seed(0)
    images = [torch.rand(3, *size, generator=generator) for size in sizes]
    targets = []
    for height, width in sizes:
        corner = torch.rand(objects, 2, generator=generator) * torch.tensor([width / 2, height / 2])
        boxes = torch.cat([corner, corner + torch.tensor([width / 3, height / 3])], dim=1)
        targets.append({"boxes": boxes, "labels": torch.arange(objects) % 3 + 1})
    return images, targets


def loss_history(model: nn.Module, steps: int = 40) -> list[float]:
    """Train on the same two images and return the loss of each step."""
    images, targets = scene((96, 128), (128, 96))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    history = []
    for _ in range(steps):
        loss = sum(model(images, targets).values())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        history.append(loss.item())
    return history
