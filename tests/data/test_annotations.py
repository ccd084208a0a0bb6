from typing import Any

import numpy as np

from drfpn.data import open_dataset


def test_selected_images_keep_their_ids_objects_and_masks(folder: Any, coco_dict: Any) -> None:
    whole = open_dataset(folder.coco(coco_dict), segmentations=True).annotations
    indices = np.array([0, 2])
    part = whole.select_images(indices)
    expected = whole.to_coco()
    ids = set(whole.image_ids[indices].tolist())
    expected["images"] = [image for image in expected["images"] if image["id"] in ids]
    expected["annotations"] = [row for row in expected["annotations"] if row["image_id"] in ids]
    assert part.to_coco() == expected
    assert len(whole.select_images(np.zeros(0, dtype=np.int64))) == 0
