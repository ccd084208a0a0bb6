import pytest
import torch
from torch.testing import assert_close
from torchvision.models.detection.transform import GeneralizedRCNNTransform

from drfpn.detectors.transform import Transform
from tests.detectors.scenes import scene

MEAN, STD = [0.4, 0.5, 0.6], [0.2, 0.3, 0.4]


@pytest.mark.parametrize("size", [(100, 130), (375, 500), (33, 1000), (1000, 33), (240, 320), (427, 640)])
@pytest.mark.parametrize("training", [True, False])
def test_images_boxes_and_masks_equal_torchvisions(size, training) -> None:
    ours = Transform((200, 240), 320, MEAN, STD).train(training)
    theirs = GeneralizedRCNNTransform((200, 240), 320, MEAN, STD).train(training)
    images, targets = scene(size, (60, 90))
    results = []
    for transform in (ours, theirs):
        torch.manual_seed(0)
        batch, changed = transform(images, [dict(target) for target in targets])
        results.append((batch.tensors, batch.image_sizes, changed))
    assert_close(*results, rtol=0, atol=0)


def test_the_thinnest_image_keeps_a_pixel() -> None:
    batch, _ = Transform(240, 320, MEAN, STD).eval()([torch.rand(3, 1, 1000)])
    assert batch.image_sizes == [(1, 320)]
