"""The footprint and the boxes."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from batch.drizzling.coverage import (
    CELL,
    PixelBox,
    cell_means,
    check_boxes,
    choose_boxes,
    survey,
    try_boxes,
)
from batch.errors import InputError


def overlapping(size: int = 400) -> np.ndarray:
    """Four exposures of 100 s; all of them contribute in the middle only."""
    weight = np.zeros((size, size), dtype=np.float32)
    for k in range(4):
        weight[20 + 20 * k : size - 100 + 20 * k, 40 + 10 * k : size - 60 + 10 * k] += 100
    return weight


def test_cell_means_are_means() -> None:
    block = np.random.default_rng(1).gamma(4.0, 50.0, (32, 48)).astype(np.float32)
    expected = block.astype(float).reshape(4, 8, 6, 8).mean(axis=(1, 3))
    np.testing.assert_allclose(cell_means(block), expected, rtol=1e-14)


def test_a_cell_cut_off_by_the_mosaic_counts_zeros() -> None:
    assert cell_means(np.ones((8, 4), np.float32)).tolist() == [[0.5]]


def test_holes_belong_to_the_interior_and_gaps_to_the_outside_do_not() -> None:
    weight = np.ones((400, 400), dtype=np.float32)
    weight[100:140, 100:140] = 0
    weight[240:280, :] = 0
    interior = survey(cell_means(weight)).interior.repeat(CELL, 0).repeat(CELL, 1)
    assert interior[120, 120]
    assert not interior[240:280].any()
    assert interior[200, 200]
    assert interior[300, 300]


def test_boxes_lie_where_all_exposures_contribute() -> None:
    weight = overlapping()
    coverage = survey(cell_means(weight))
    boxes = choose_boxes(coverage, weight.shape, size=64, count=5)
    assert len(boxes) == 5
    for box in boxes:
        assert (weight[box.slices] == 400).all()
        assert (box.x1 - box.x0, box.y1 - box.y0) == (64, 64)
    taken = sum(np.ones_like(weight) * 0 + _inside(weight.shape, box) for box in boxes)
    assert taken.max() == 1, "boxes overlap"


def test_boxes_avoid_the_exposure_that_is_short_of_one() -> None:
    weight = overlapping()
    weight[:, 200:] -= np.minimum(weight[:, 200:], 100)
    for box in choose_boxes(survey(cell_means(weight)), weight.shape, size=64, count=5):
        assert box.x1 <= 200


def test_masked_pixels_and_bad_columns_do_not_keep_boxes_away() -> None:
    weight = overlapping()
    weight[:, 177:179] = 0
    weight[np.random.default_rng(2).uniform(size=weight.shape) < 0.02] = 0
    assert len(choose_boxes(survey(cell_means(weight)), weight.shape, size=96, count=4)) >= 2


def test_boxes_shrink_to_what_fits() -> None:
    weight = overlapping()
    (side,) = {
        b.x1 - b.x0 for b in choose_boxes(survey(cell_means(weight)), weight.shape, size=1600, count=3)
    }
    assert side == 96  # 220 rows in common, less four cells at either rim; 1600 halved until it fits


def test_a_mosaic_too_small_for_any_box() -> None:
    with pytest.raises(InputError, match=r"no box of 16 x 16 pixels fits"):
        choose_boxes(survey(cell_means(np.ones((56, 56), np.float32))), (56, 56), size=400, count=5)


@pytest.mark.parametrize("factor", [1.0, 0.5, 1.5])
def test_boxes_are_tried_on_an_earlier_mosaic(factor: float) -> None:
    """What lies clearly outside is refused in the pixels of the user, what may come right is not."""
    weight = overlapping()
    coverage = survey(cell_means(weight))

    def tried(*box: int) -> None:
        corners = (round(v / factor) for v in box)
        try_boxes((PixelBox(*corners),), coverage, weight.shape, factor)

    tried(100, 200, 100, 200)
    # one cell beyond what is covered: columns 40 to 376, rows 20 to 360
    tried(34, 100, 100, 200)
    for box in ((0, 20, 100, 120), (360, 500, 100, 120), (900, 950, 100, 120), (200, 220, 0, 40)):
        with pytest.raises(
            InputError, match=r"outside the footprint of the exposures.* covered within"
        ) as raised:
            tried(*box)
        assert f"x {round(box[0] / factor)}:{round(box[1] / factor)}, y" in raised.value.message
        assert f"the {round(400 / factor)} x {round(400 / factor)} mosaic" in raised.value.message


@pytest.mark.parametrize(
    "box",
    [
        PixelBox(0, 16, 100, 120),
        PixelBox(350, 500, 100, 120),
        PixelBox(200, 220, 10, 40),
        PixelBox(120, 100, 100, 120),
    ],
)
def test_boxes_of_the_user_outside_the_footprint_are_refused(box: PixelBox) -> None:
    weight = overlapping()
    with pytest.raises(
        InputError, match=r"statistics\.boxes x .* lies outside the footprint.*covered within"
    ):
        check_boxes((PixelBox(150, 170, 150, 170), box), survey(cell_means(weight)), weight.shape)


def test_interior_is_a_proper_part_of_the_coverage() -> None:
    coverage = survey(cell_means(overlapping()))
    assert (coverage.interior <= coverage.covered).all()
    assert (ndimage.binary_dilation(coverage.interior, iterations=2) <= coverage.covered).all()


def _inside(shape: tuple[int, ...], box: PixelBox) -> np.ndarray:
    mask = np.zeros(shape)
    mask[box.slices] = 1
    return mask
