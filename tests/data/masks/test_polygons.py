import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pycocotools import mask as oracle

from drfpn.data.masks.polygons import join_contours, mask_to_contours, signed_area, to_polygon
from drfpn.data.masks.rle import decode

masks = st.tuples(st.integers(1, 9), st.integers(1, 9)).flatmap(
    lambda shape: arrays(np.uint8, shape, elements=st.integers(0, 1)).filter(np.any)
)


@given(masks)
def test_one_polygon_covers_exactly_the_mask(mask) -> None:
    height, width = mask.shape
    polygon = join_contours(mask_to_contours(mask)).ravel().tolist()
    np.testing.assert_array_equal(decode([polygon], height, width), mask)
    np.testing.assert_array_equal(oracle.decode(oracle.frPyObjects([polygon], height, width))[..., 0], mask)


@given(masks)
def test_areas_of_contours_add_up_to_the_pixels(mask) -> None:
    assert sum(map(signed_area, mask_to_contours(mask))) == mask.sum()
    assert signed_area(join_contours(mask_to_contours(mask))) == mask.sum()


def test_a_ring_has_an_outer_contour_and_a_hole() -> None:
    mask = np.ones((3, 4), np.uint8)
    mask[1, 1:3] = 0
    areas = sorted(signed_area(contour) for contour in mask_to_contours(mask))
    assert areas == [-2, 12]
    assert all(len(contour) == 4 for contour in mask_to_contours(mask))


def test_pixels_that_touch_at_a_corner_are_two_contours() -> None:
    assert [len(contour) for contour in mask_to_contours(np.eye(2, dtype=np.uint8))] == [4, 4]


@given(st.integers(0, 10**6))
@settings(max_examples=50)
def test_several_polygons_become_one_that_covers_the_same_pixels(seed: int) -> None:
    rng = np.random.default_rng(seed)
    polygons = [rng.uniform(0, 30, 2 * rng.integers(3, 6)).tolist() for _ in range(3)]  # they may overlap
    expected = decode(polygons, 30, 30)
    polygon = to_polygon(polygons, 30, 30)
    if not expected.any():
        assert polygon is None or not decode([polygon.ravel().tolist()], 30, 30).any()
        return
    assert polygon is not None
    np.testing.assert_array_equal(decode([polygon.ravel().tolist()], 30, 30), expected)


@pytest.mark.parametrize("counts", [[12], [0, 12]])
def test_an_empty_and_a_full_mask(counts: list[int]) -> None:
    polygon = to_polygon({"size": [3, 4], "counts": counts}, 3, 4)
    assert (polygon is None) == (counts == [12])
    assert polygon is None or sorted(polygon.tolist()) == [[0, 0], [0, 3], [4, 0], [4, 3]]
