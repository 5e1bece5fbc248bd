"""meta/info.json of a LeRobot v3.0 dataset: what it declares, read and checked."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

from ur10e_act.dataset.dataset_error import DatasetError, damaged
from ur10e_act.dataset.features import ACTION, STATE
from ur10e_act.dataset.layout import BOOKKEEPING
from ur10e_act.errors import one_line

CODEBASE_VERSION = "v3.0"
# What str.format would take for a placeholder, an escaped brace, or an error.
PLACEHOLDER = re.compile(r"{{|}}|{(?P<name>\w+)(?::(?P<spec>(?:0[1-9])?d?))?}|[{}]")


@dataclass(frozen=True)
class Feature:
    """One feature as meta/info.json declares it."""

    dtype: str  # video, image, float32, ...
    shape: tuple[int, ...]
    names: tuple[str, ...]  # empty when not given
    is_depth: bool = False

    @property
    def is_camera(self) -> bool:
        return self.dtype in ("video", "image")

    @property
    def height_width(self) -> tuple[int, int]:
        """(H, W) px of a camera, whose shape is declared channels last (LeRobot's way) or channels first."""
        channels_first = self.names[:1] in (("channels",), ("channel",))
        height, width = self.shape[1:] if channels_first else self.shape[:2]
        return height, width

    @property
    def element_names(self) -> tuple[str, ...]:
        """Joint names of a vector; numbers where the dataset names none."""
        fits = len(self.names) == self.shape[0]
        return self.names if fits else tuple(str(index) for index in range(self.shape[0]))


@dataclass(frozen=True)
class DatasetInfo:
    """The dataset at ``root``, as ``path``, its meta/info.json, declares it. Made by ``read_info``."""

    root: Path
    path: Path
    fps: int  # frames/s
    robot_type: str
    total_episodes: int
    total_frames: int
    features: dict[str, Feature]  # by full name
    templates: dict[str, Any]  # data_path and video_path, unchecked

    def choose_cameras(self, cameras: Sequence[str] | None) -> tuple[str, ...]:
        """Full names of the cameras asked for (None: all RGB ones), in the order of meta/info.json."""
        rgb = tuple(name for name, ft in self.features.items() if ft.is_camera and not ft.is_depth)
        known = ", ".join(rgb) or "none"
        if not (rgb if cameras is None else cameras):
            raise DatasetError(f"{self.path}: ACT needs at least one RGB camera; the dataset has {known}")
        for camera in cameras or ():
            feature = self.features.get(camera)
            if feature is not None and feature.is_camera and feature.is_depth:
                raise DatasetError(f"{self.path}: {camera} is a depth camera, only RGB is read; use {known}")
            if camera not in rgb:
                raise DatasetError(f"{self.path}: there is no camera {camera}; use {known}")
        return tuple(name for name in rgb if cameras is None or name in cameras)

    def refuse_differences(self, other: DatasetInfo) -> None:
        """DatasetError unless ``other`` has the same fps and features."""
        found = f"fps is {self.fps} against {other.fps}" if self.fps != other.fps else None
        for name in dict.fromkeys([*other.features, *self.features]):
            mine, theirs = self.features.get(name), other.features.get(name)
            if mine is None or theirs is None:
                found = found or f"the feature {name} is only in the {'latter' if mine is None else 'former'}"
                break
            for part in ("dtype", "shape", "names", "is_depth"):
                here, there = getattr(mine, part), getattr(theirs, part)
                if here != there:
                    found = found or f"{part} of {name} is {here} against {there}"
        if found is not None:
            raise DatasetError(
                f"{self.path}: cannot be read as one with {other.path}: {found}; "
                "use one of them, or record both alike"
            )

    def file(self, key: str, chunk_index: int, file_index: int, **names: str) -> Path:
        """The file that ``data_path`` or ``video_path`` names."""
        numbers = {"chunk_index": chunk_index, "file_index": file_index}
        return self.root / fill_template(self.path, key, self.templates[key], numbers, names)


def read_info(root: Path) -> DatasetInfo:
    """Reads and checks meta/info.json. Raises DatasetError, naming file and remedy."""
    path = root / "meta" / "info.json"
    info = _read_json(root, path)
    features = {name: _parse_feature(path, name, described) for name, described in info["features"].items()}
    for name in (STATE, ACTION):
        feature = features.get(name)
        if feature is None or feature.is_camera or len(feature.shape) != 1:
            raise DatasetError(
                f"{path}: needs a feature {name} that is a vector, has {', '.join(features)}; "
                "rename it or record the dataset with it"
            )
    for name in BOOKKEEPING:
        if name not in features:
            raise damaged(path, f"the feature {name}, which LeRobot always writes, is missing")
    return DatasetInfo(
        root,
        path,
        int(info["fps"]),
        str(info.get("robot_type") or "unknown"),
        info["total_episodes"],
        info["total_frames"],
        features,
        {key: info.get(key) for key in ("data_path", "video_path")},
    )


def _read_json(root: Path, path: Path) -> dict[str, Any]:
    if not root.is_dir():
        raise DatasetError(f"{root}: no such directory; name the one that holds meta/info.json")
    if not path.is_file():
        raise DatasetError(
            f"{path}: missing, so {root} is not a LeRobot dataset; name the folder that holds "
            "meta/, data/ and videos/"
        )
    try:
        info = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise damaged(path, f"cannot be read as JSON ({one_line(error)})") from error
    if not isinstance(info, dict):
        raise damaged(path, "is not a JSON object")
    version = info.get("codebase_version")
    if version != CODEBASE_VERSION:
        remedy = "write it as v3.0 with lerobot 0.4 to 0.6"
        if isinstance(version, str) and version.startswith(("v1", "v2")):
            remedy = (
                "convert v2.1 with `python -m lerobot.datasets.v30.convert_dataset_v21_to_v30` "
                "of lerobot 0.4, older ones to v2.1 first"
            )
        raise DatasetError(
            f"{path}: codebase_version is {version!r}, only {CODEBASE_VERSION} is read; {remedy}"
        )
    fps = info.get("fps")
    if isinstance(fps, bool) or not isinstance(fps, int | float) or not 0 < fps < 10_000 or fps != int(fps):
        raise DatasetError(
            f"{path}: fps is {fps!r}; set it to the whole number of frames/s it was recorded at"
        )
    for key in ("total_episodes", "total_frames"):
        if isinstance(info.get(key), bool) or not isinstance(info.get(key), int):
            raise damaged(path, f"{key} is {info.get(key)!r} instead of a count")
    if info["total_episodes"] < 1:
        raise DatasetError(f"{path}: the dataset has no episode; record some first")
    if not isinstance(info.get("features"), dict):
        raise damaged(path, "has no features")
    return info


def _parse_feature(path: Path, name: str, described: Any) -> Feature:
    shape = described.get("shape") if isinstance(described, dict) else None
    if not isinstance(shape, list) or not all(isinstance(n, int) and n > 0 for n in shape):
        raise damaged(path, f"the feature {name} has shape {shape!r} instead of positive numbers")
    if not isinstance(described.get("dtype"), str):
        raise damaged(path, f"the feature {name} has no dtype")
    names = described.get("names") or ()
    if isinstance(names, dict):
        # Some recorders write {"motors": [...]} or {"x": 0, "y": 1}.
        lists = [values for values in names.values() if isinstance(values, list)]
        names = [name for values in lists for name in values] if lists else list(names)
    feature = Feature(described["dtype"], tuple(shape), tuple(str(name) for name in names))
    if not feature.is_camera:
        return feature
    if len(shape) != 3:
        raise damaged(path, f"the camera {name} has shape {shape} instead of (H, W, 3)")
    details = {**(described.get("video_info") or {}), **(described.get("info") or {})}
    channels = shape[0] if feature.height_width == tuple(shape[1:]) else shape[2]
    is_depth = channels == 1 or bool(details.get("is_depth_map") or details.get("video.is_depth_map"))
    if channels != 3 and not is_depth:
        raise damaged(path, f"the camera {name} has shape {shape} instead of (H, W, 3)")
    return replace(feature, is_depth=is_depth)


def fill_template(
    source: Path, key: str, template: Any, numbers: Mapping[str, int], names: Mapping[str, str]
) -> PurePosixPath:
    """Fill in a path template of a foreign meta/info.json, without str.format.

    A width like {chunk_index:>9999999999} would hang str.format, and {x.__class__} would reach into objects.
    Only the given placeholders are known, numbers with a width below 10, and the path must stay inside the
    dataset.
    """
    known = ", ".join(f"{{{name}}}" for name in [*numbers, *names])
    wrong = DatasetError(
        f"{source}: {key} {template!r} is unusable; it must be a path inside the dataset, made of text and "
        f"{known}, with no more than a width like :03d"
    )

    def fill(match: re.Match[str]) -> str:
        name, spec = match["name"], match["spec"] or ""
        if match[0] in ("{{", "}}"):
            return match[0][0]
        if name in numbers:
            return str(numbers[name]).zfill(int(spec.strip("0d") or 1))
        if name not in names or spec:
            raise wrong
        return names[name]

    if not isinstance(template, str):
        raise wrong
    text = PLACEHOLDER.sub(fill, template)
    path = PurePosixPath(text)
    if not path.parts or path.is_absolute() or ".." in path.parts or "\0" in text:
        raise wrong
    return path
