"""Copy some datasets of lerobot_reference.py into tests/fixtures, with what both versions read from them.

python write_fixtures.py OUT        # after `write` and `dump` by both versions
"""

import shutil
import sys
from pathlib import Path

import numpy as np

FIXTURES = Path(__file__).resolve().parents[1] / "fixtures"
# dataset under OUT -> fixture. AV1 is in the sample and, re-encoded by the delete tool, in h264_deleted.
CHOSEN = {
    "sample/ur10e_v3_by_lerobot_0_4_4": "ur10e_v3_by_lerobot_0_4_4",
    "lerobot_0.4.4/h264_deleted": "h264_deleted_by_lerobot_0_4_4",
    "lerobot_0.4.4/image_deleted": "image_deleted_by_lerobot_0_4_4",
    "lerobot_0.6.1/hevc_two_sessions": "hevc_two_sessions_by_lerobot_0_6_1",
    "lerobot_0.6.1/depth": "depth_by_lerobot_0_6_1",
}
PIXELS_A_SIDE = 10


def main(out: Path) -> None:
    for source, name in CHOSEN.items():
        dumps = sorted((out / source).parent.glob(f"{Path(source).name}.read_by_*_torchcodec.npz"))
        assert len(dumps) == 2, f"{source} was read by {len(dumps)} versions"
        old, new = (np.load(dump) for dump in dumps)
        expected = {}
        for key in old.files:
            values = old[key]
            if key.startswith("observation.images."):
                assert np.abs(values.astype(int) - new[key].astype(int)).max() <= 1, (source, key)
                rows, columns = values.shape[2] // PIXELS_A_SIDE, values.shape[3] // PIXELS_A_SIDE
                expected[f"some_pixels_of.{key}"] = values[:, :, ::rows, ::columns]
                expected[f"middle_frame_of.{key}"] = values[len(values) // 2]
            else:
                assert np.array_equal(values, new[key]), (source, key)
                expected[key] = values
        if not source.startswith("sample/"):
            shutil.rmtree(FIXTURES / name, ignore_errors=True)
            shutil.copytree(out / source, FIXTURES / name)
        np.savez_compressed(FIXTURES / f"{name}.npz", **expected)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
