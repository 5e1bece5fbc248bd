"""resize.py: size, dtype and brightness of resized images."""

import numpy as np
from written_dataset import CAMERAS, pictures

from ur10e_act.dataset.resize import resize_frames


def test_resize():
    right = np.stack([pictures(0, CAMERAS[0])[frame] for frame in range(3)])
    assert resize_frames(right, (64, 96)) is right
    small = resize_frames(right, (32, 48))
    assert small.shape == (3, 32, 48, 3)
    assert small.dtype == np.uint8
    # At half size an antialiased bilinear filter is a weighted mean: it keeps local brightness, not pixels.
    means = right.reshape(3, 32, 2, 48, 2, 3).mean(axis=(2, 4))
    assert np.abs(small - means).mean() < 6
    assert np.abs(resize_frames(np.full((1, 64, 96, 3), 77, np.uint8), (50, 61)).astype(int) - 77).max() == 0
    read_only = right.copy()
    read_only.flags.writeable = False
    assert np.array_equal(resize_frames(read_only, (32, 48)), small)
