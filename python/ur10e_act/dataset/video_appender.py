"""Joins episodes' mp4 files to the video files of a dataset that is being written, without encoding again."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
from av.container import OutputContainer

from ur10e_act.dataset.layout import VIDEO_PATH, indices, link_files


class VideoAppender:
    """Writes one camera's files under ``root``/videos; many episodes share a file.

    fps: frames/s.
    limit: bytes of encoded images that a file does not grow beyond, unless one episode alone does.
    """

    def __init__(self, root: Path, camera: str, fps: int, limit: int) -> None:
        self._root, self._camera, self._fps, self._limit = root, camera, fps, limit
        self._number, self._size, self._frames = -1, 0, 0
        self._container: OutputContainer | None = None

    def append(self, episode: Path, length: int) -> dict[str, int | float]:
        """Appends an mp4 of EpisodeEncoder, ``length`` frames, packet by packet; returns where it lies."""
        size, container = _image_bytes(episode), self._container
        if container is None or self._size + size > self._limit:
            container = self._start_file(self._number + 1)
        self._copy_packets(episode, container)
        begin, end = self._frames, self._frames + length
        self._size, self._frames = self._size + size, end
        return {
            **indices(self._number),
            "from_timestamp": begin / self._fps,
            "to_timestamp": end / self._fps,
        }

    def resume(self, older: Path, number: int, frames: int) -> None:
        """Starts at the end of the dataset at ``older``, whose last file is ``number`` and has ``frames``.

        Full files are linked, the last one is copied by packets.
        """
        link_files(older, self._root, VIDEO_PATH, number, video_key=self._camera)
        last = older / VIDEO_PATH.format(video_key=self._camera, **indices(number))
        self._copy_packets(last, self._start_file(number))
        self._size, self._frames = _image_bytes(last), frames

    def close(self) -> None:
        if self._container is not None:
            self._container.close()
            self._container = None

    def _start_file(self, number: int) -> OutputContainer:
        self.close()
        self._number, self._size, self._frames = number, 0, 0
        path = self._root / VIDEO_PATH.format(video_key=self._camera, **indices(number))
        path.parent.mkdir(parents=True, exist_ok=True)
        self._container = av.open(str(path), "w", options={"movflags": "+faststart", "fflags": "+bitexact"})
        return self._container

    def _copy_packets(self, video: Path, container: OutputContainer) -> None:
        with av.open(str(video)) as source:
            stream = source.streams.video[0]
            if not container.streams.video:
                container.add_stream_from_template(stream, opaque=True)
            if stream.time_base is None:
                raise ValueError(f"{video}: its video has no time base")
            # The episode was encoded by itself: it starts with a key frame wherever it lies in the file.
            offset = round(Fraction(self._frames, self._fps) / stream.time_base)
            for packet in source.demux(stream):
                if packet.pts is None or packet.dts is None:  # the last, empty one
                    continue
                packet.pts, packet.dts = packet.pts + offset, packet.dts + offset
                packet.stream = container.streams.video[0]
                container.mux(packet)


def _image_bytes(video: Path) -> int:
    """The size of a video's images alone: a finished file tells it, too."""
    with av.open(str(video)) as source:
        return sum(packet.size for packet in source.demux(video=0) if packet.dts is not None)
