"""Write small datasets with a reference version of lerobot and dump what its LeRobotDataset reads from them.

Run in a venv that has that version; the project's reader is then compared with the dumps by
compare_reader.py:

    REFERENCE_VENV/bin/python lerobot_reference.py write OUT          # OUT/lerobot_VERSION/NAME/
    REFERENCE_VENV/bin/python lerobot_reference.py dump OUT BACKEND   # OUT/*/NAME.read_by_VERSION_BACKEND.npz

BACKEND is lerobot's video backend: pyav or torchcodec.
"""

import functools
import json
import shutil
import sys
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from lerobot.datasets import dataset_tools
from lerobot.datasets import lerobot_dataset as lerobot_module
from lerobot.datasets.lerobot_dataset import LeRobotDataset

VERSION = version("lerobot")
OLD = VERSION.startswith("0.4")
FPS = 20
HEIGHT, WIDTH = 64, 96  # px; SVT-AV1 takes nothing below 64
CHUNK_SIZE = 12
CAMERAS = ("observation.images.top", "observation.images.wrist_left")
JOINTS = ["shoulder_pan", "shoulder_lift", "elbow", "wrist_1", "gripper"]
TINY_MB = 0.008  # below one episode, so that every episode starts a file


def features(camera_dtype: str, depth: bool) -> dict:
    image = {"dtype": camera_dtype, "shape": (HEIGHT, WIDTH, 3), "names": ["height", "width", "channels"]}
    described = {
        "observation.state": {"dtype": "float32", "shape": (5,), "names": JOINTS},
        "action": {"dtype": "float32", "shape": (5,), "names": JOINTS},
        "next.reward": {"dtype": "float32", "shape": (1,), "names": None},
        **{camera: dict(image) for camera in CAMERAS},
    }
    if depth:
        described["observation.images.depth_top"] = {
            "dtype": camera_dtype,
            "shape": (HEIGHT, WIDTH, 1),
            "names": ["height", "width", "channels"],
            "info": {"is_depth_map": True},
        }
    return described


def picture(seed: int, episode: int, frame: int, camera: int) -> np.ndarray:
    """A moving gradient with a scene cut and the frame number as stripes, so that neighbours differ."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    phase = 9 * frame + 40 * episode + 80 * camera + (120 if frame >= 13 else 0) + 11 * seed
    red = 127 + 120 * np.sin((x + phase) / 15)
    green = 127 + 120 * np.cos((y - phase) / 21)
    blue = np.where((frame >> (x // 12)) & 1, 230, 20)
    return np.stack([red, green, blue], axis=2).astype(np.uint8)


def record(dataset: LeRobotDataset, seed: int, lengths: list[int], depth: bool) -> None:
    for episode, length in enumerate(lengths):
        random = np.random.default_rng([seed, episode])
        for frame in range(length):
            values = {
                "observation.state": random.standard_normal(5).astype(np.float32),
                "action": random.standard_normal(5).astype(np.float32),
                "next.reward": np.array([frame / length], dtype=np.float32),
                # The task changes within every episode.
                "task": "reach" if frame < length // 2 else f"grasp {episode % 2}",
            }
            values |= {name: picture(seed, episode, frame, i) for i, name in enumerate(CAMERAS)}
            if depth:
                millimetres = 500 + 5 * frame + np.arange(HEIGHT * WIDTH).reshape(HEIGHT, WIDTH, 1) // 8
                values["observation.images.depth_top"] = millimetres.astype(np.uint16)
            dataset.add_frame(values)
        dataset.save_episode()


def write(
    root: Path,
    codec: str,
    gop: int,
    sessions: list[list[int]],
    seed: int,
    tiny: bool = False,
    depth: bool = False,
) -> LeRobotDataset:
    """Record ``sessions`` (lengths of episodes in frames) in turn; codec "image" keeps PNG in parquet."""
    shutil.rmtree(root, ignore_errors=True)
    videos = codec != "image"
    if OLD:
        options = {"vcodec": codec} if videos else {}
        lerobot_module.encode_video_frames = functools.partial(encode_video_frames, g=gop)
    else:
        from lerobot.configs.video import RGBEncoderConfig

        options = {"rgb_encoder": RGBEncoderConfig(vcodec=codec, g=gop)} if videos else {}
    for number, lengths in enumerate(sessions):
        if number == 0:
            kind = "video" if videos else "image"
            dataset = LeRobotDataset.create(
                root.name,
                FPS,
                features(kind, depth),
                root=root,
                robot_type="ur10e",
                use_videos=videos,
                **options,
            )
            if tiny:
                dataset.meta.update_chunk_settings(
                    data_files_size_in_mb=TINY_MB, video_files_size_in_mb=TINY_MB
                )
        elif OLD:
            dataset = LeRobotDataset(root.name, root=root, video_backend="pyav", **options)
        else:
            dataset = LeRobotDataset.resume(root.name, root=root, **options)
        record(dataset, seed + 100 * number, lengths, depth)
        dataset.finalize()
    return open_dataset(root)


def write_all(out: Path) -> None:
    folder = out / f"lerobot_{VERSION}"
    av1 = write(folder / "av1", "libsvtav1", 2, [[31, 24, 28]], 1)
    h264 = write(folder / "h264_files_rolled", "h264", 50, [[31, 24, 28, 20], [26, 22]], 2, tiny=True)
    two = write(folder / "h264_two_sessions", "h264", 50, [[31, 24, 28], [26, 30]], 3)
    hevc = write(folder / "hevc_two_sessions", "hevc", 50, [[31, 24], [26, 30]], 4)
    image = write(folder / "image_two_sessions", "image", 2, [[11, 14], [16, 9]], 5)
    write(folder / "image_files_rolled", "image", 2, [[11, 14, 12]], 6, tiny=True)
    write(folder / "av1_two_sessions", "libsvtav1", 2, [[16, 14], [12]], 7)
    if not OLD:
        write(folder / "depth", "h264", 2, [[16, 14]], 8, depth=True)

    def target(name: str) -> dict:
        shutil.rmtree(folder / name, ignore_errors=True)
        return {"output_dir": folder / name, "repo_id": name}

    def merged(name: str) -> dict:
        shutil.rmtree(folder / name, ignore_errors=True)
        return {"output_dir": folder / name, "output_repo_id": name}

    dataset_tools.delete_episodes(two, [1], **target("h264_deleted"))
    dataset_tools.delete_episodes(h264, [0, 3], **target("h264_files_rolled_deleted"))
    dataset_tools.delete_episodes(hevc, [2], **target("hevc_deleted"))
    dataset_tools.delete_episodes(image, [1], **target("image_deleted"))
    dataset_tools.delete_episodes(av1, [1], **target("av1_deleted"))
    dataset_tools.merge_datasets([av1, open_dataset(folder / "av1_two_sessions")], **merged("av1_merged"))
    dataset_tools.merge_datasets([h264, two], **merged("h264_merged"))
    dataset_tools.merge_datasets([hevc, open_dataset(folder / "hevc_deleted")], **merged("hevc_merged"))
    dataset_tools.merge_datasets(
        [image, open_dataset(folder / "image_files_rolled")], **merged("image_merged")
    )


def open_dataset(root: Path) -> LeRobotDataset:
    return LeRobotDataset(root.name, root=root, video_backend="pyav")


def dump(root: Path, into: Path, backend: str) -> None:
    """Save every item of the dataset in ``root``, with a chunk of actions, as arrays."""
    fps = json.loads((root / "meta" / "info.json").read_text())["fps"]
    chunk = {"action": [step / fps for step in range(CHUNK_SIZE)]}
    dataset = LeRobotDataset(root.name, root=root, video_backend=backend, delta_timestamps=chunk)
    cameras = [camera for camera in dataset.meta.camera_keys if "depth" not in camera]
    names = [
        "observation.state",
        "action",
        "action_is_pad",
        "timestamp",
        "frame_index",
        "episode_index",
        "index",
    ]
    names += ["task_index", *cameras]
    columns: dict[str, list[np.ndarray]] = {name: [] for name in names}
    tasks = []
    for index in range(len(dataset)):
        item = dataset[index]
        tasks.append(item["task"])
        for name in names:
            value = item[name]
            if name in cameras:
                levels = value * 255
                assert (levels - levels.round()).abs().max() < 1e-3
                value = levels.round().to(torch.uint8)
            columns[name].append(value.numpy())
    np.savez_compressed(
        into, task=np.array(tasks), **{name: np.stack(values) for name, values in columns.items()}
    )


if __name__ == "__main__":
    out = Path(sys.argv[2])
    if sys.argv[1] == "write":
        encode_video_frames = lerobot_module.encode_video_frames if OLD else None
        write_all(out)
    else:
        for info in sorted(out.glob("*/*/meta/info.json")):
            root, backend = info.parents[1], sys.argv[3]
            into = root.with_name(f"{root.name}.read_by_{VERSION}_{backend}.npz")
            try:
                dump(root, into, backend)
            except Exception as error:  # a version that cannot read it is a result, too
                found = f"{type(error).__name__}: {error}"[:200]
                print(f"{VERSION} {backend} cannot read {root.relative_to(out)}: {found}")
