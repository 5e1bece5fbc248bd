"""pixel_counts.py: counts and their statistics equal numpy's over the pixels themselves."""

import numpy as np
from PIL import Image

from ur10e_act.dataset.pixel_counts import count_pixels, level_stats


def test_counts_and_statistics_are_those_of_the_pixels() -> None:
    random = np.random.default_rng(0)
    images = random.integers((10, 0, 50), (200, 256, 51), size=(3, 20, 30, 3)).astype(np.uint8)
    counts = sum(count_pixels(Image.fromarray(image)) for image in images)
    assert counts.dtype == np.int64
    pixels = images.reshape(-1, 3)
    for colour in range(3):
        np.testing.assert_array_equal(counts[colour], np.bincount(pixels[:, colour], minlength=256))
    found = level_stats(counts, np.arange(256) / 255)
    assert list(found) == ["min", "max", "mean", "std"]
    for key, value in found.items():
        np.testing.assert_allclose(value, getattr(pixels / 255, key)(axis=0), rtol=0, atol=1e-12)


def test_a_fourth_channel_does_not_count() -> None:
    image = np.random.default_rng(0).integers(0, 256, (4, 6, 3)).astype(np.uint8)
    padded = Image.fromarray(np.dstack([image, np.full((4, 6), 9, np.uint8)]), "RGBX")
    np.testing.assert_array_equal(count_pixels(padded), count_pixels(Image.fromarray(image)))
