"""Measures converting recordings against encoding alone, seconds per GB of bag, and memory against length.

    PYTHONPATH=python python tests/python/bench_convert.py [ROUNDS]

Encoding alone gets the same frames, decoded and in memory, and does what the converter's encoder does with
them, on one core; the converter decodes the next image on a second one meanwhile, where it is free. Rounds
alternate and the medians are compared, by the clock and by CPU seconds.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

import bags
import numpy as np
from PIL import Image
from rosbags.rosbag2 import StoragePlugin

from ur10e_act.dataset.video_encoder import EpisodeEncoder
from ur10e_act.recordings.conversion_report import Kept
from ur10e_act.recordings.convert_config import CameraConfig, ConvertConfig
from ur10e_act.recordings.convert_recording import convert_recording
from ur10e_act.recordings.find_recordings import find_recordings
from ur10e_act.recordings.ros_images import CompressedDecoder

HEIGHT, WIDTH, SECONDS = 480, 640, 10
TOPIC = "/top/image_raw/compressed"
CONFIG = ConvertConfig(task="bench", cameras={"top": CameraConfig(TOPIC)})


def scene(number: int) -> np.ndarray:
    """A textured image with a disc that moves and a camera's noise, uint8 (H, W, 3)."""
    random = np.random.default_rng(0)
    coarse = random.uniform(20, 235, (HEIGHT // 16, WIDTH // 8, 3)).astype(np.uint8)
    texture = np.asarray(Image.fromarray(coarse).resize((2 * WIDTH, HEIGHT), Image.Resampling.BICUBIC))
    shift = 2 * (number % (WIDTH // 4))
    frame = texture[:, shift : shift + WIDTH].astype(np.int16)
    y, x = np.ogrid[:HEIGHT, :WIDTH]
    frame[(y - 240 - 100 * np.sin(number / 20)) ** 2 + (x - 320) ** 2 < 3600] = (210, 30, 40)
    noise = np.random.default_rng(number).normal(0, 2, (HEIGHT, WIDTH, 1))
    return (frame + noise).clip(0, 255).astype(np.uint8)


def write_bag(path: Path, seconds: float) -> Path:
    """A UR10e at 500 Hz and one camera at 30 Hz, JPEG, in mcap; the same 90 images again and again."""
    made: dict[int, object] = {}

    def jpeg(time_ns: int, _: np.ndarray) -> object:
        number = round((time_ns - bags.START_NS) / bags.NS * 30) % 90
        if number not in made:
            made[number] = bags.compressed(time_ns, scene(number)).data
        kind = "rgb8; jpeg compressed bgr8"
        return bags.TYPES["sensor_msgs/msg/CompressedImage"](bags.header(time_ns), kind, made[number])

    bag = bags.Bag(seconds=seconds, joint_hz=500, make_image=jpeg, storage=StoragePlugin.MCAP)
    return bag.write(path)


def now() -> np.ndarray:
    return np.array([time.perf_counter(), time.process_time()])


def encode_only(work: Path) -> np.ndarray:
    """Frames/s by the clock and by CPU seconds of the converter's encoder."""
    decoder = CompressedDecoder(0.0, 1.0)
    frames = [decoder.decode(bags.compressed(0, scene(number))) for number in range(90)]
    start = now()
    encoder = EpisodeEncoder(work / "encoded.mp4", CONFIG.fps, (HEIGHT, WIDTH, 3), CONFIG.video_codec)
    for number in range(SECONDS * 30):
        encoder.add(frames[number % 90])
    encoder.close()
    return encoder.frames / (now() - start)


def conversion(bag: Path, work: Path) -> np.ndarray:
    """Frames/s by the clock and by CPU seconds from the recording to its finished piece."""
    recording = find_recordings(bag)[0]
    start = now()
    report = convert_recording(recording, recording.digests(), CONFIG, work / "piece")
    assert isinstance(report.result, Kept)
    return report.result.frames / (now() - start)


def peak_mb(bag: Path, work: Path) -> float:
    """Peak resident memory of converting one recording in a process of its own, MB."""
    code = (
        "import sys; from pathlib import Path; sys.path.insert(0, sys.argv[3]); import bench_convert as b;"
        "b.conversion(Path(sys.argv[1]), Path(sys.argv[2]));"
        "print(*(line for line in open('/proc/self/status') if line.startswith('VmHWM')))"
    )
    command = [sys.executable, "-c", code, bag, work, Path(__file__).parent]
    # getrusage would count what this process had before it became the other one.
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[1]) / 1e3


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        bag = write_bag(work / "bag", SECONDS)
        gigabytes = find_recordings(bag)[0].bytes / 1e9
        encoded, converted = [], []
        for number in range(rounds):
            # Who goes first changes, so that neither gains by it.
            if number % 2:
                encoded.append(encode_only(work))
            converted.append(conversion(bag, work))
            if not number % 2:
                encoded.append(encode_only(work))
            shown = f"encoding {encoded[-1][0]:.0f}, conversion {converted[-1][0]:.0f} frames/s"
            print(f"round {number + 1}: {shown}", flush=True)
        limit, reached = np.median(encoded, axis=0), np.median(converted, axis=0)
        for kind, fast, whole in zip(("clock", "CPU"), limit, reached, strict=True):
            medians = f"medians of {rounds} rounds: {whole:.0f} / {fast:.0f} frames/s"
            print(f"conversion / encoding    {whole / fast:.2f}  (by {kind}; {medians})")
        cost = SECONDS * 30 / reached[0] / gigabytes
        print(f"seconds per GB of bag    {cost:.0f}  ({WIDTH}x{HEIGHT} px JPEG, one recording at a time)")
        lengths = (10, 60, 180)
        peaks = [peak_mb(write_bag(work / f"bag{seconds}", seconds), work) for seconds in lengths]
        shown = ", ".join(f"{seconds} s: {peak:.0f} MB" for seconds, peak in zip(lengths, peaks, strict=True))
        print(f"peak memory by length    {shown}")


if __name__ == "__main__":
    main()
