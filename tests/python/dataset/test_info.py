"""info.py: path templates of foreign datasets; what it refuses else is in test_metadata.py."""

from pathlib import Path

import pytest

from ur10e_act.dataset.dataset_error import DatasetError
from ur10e_act.dataset.info import fill_template


def test_path_templates():
    def fill(template: object) -> str:
        numbers = {"chunk_index": 7, "file_index": 12}
        return str(fill_template(Path("info.json"), "video_path", template, numbers, {"video_key": "a.b"}))

    assert fill("videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4") == (
        "videos/a.b/chunk-007/file-012.mp4"
    )
    assert fill("{chunk_index}/{file_index:d}.mp4") == "7/12.mp4"
    assert fill("a{{b}}/{video_key:}.mp4") == "a{b}/a.b.mp4"
    for template in (
        "{chunk_index}}",
        "{video_key:03d}",
        "{chunk_index:>9999999999}",
        "{chunk_index:09999999999d}",
        "{chunk_index!r}",
        "{chunk_index.__class__}",
        "{chunk_index[0]}",
        "{other}",
        "{}",
        "{0}",
        "{video_key:>99999999999}",
        "{chunk_index:{file_index}}",
        "a/{chunk_index",
        "../{chunk_index}",
        "a/../../{chunk_index}",
        "/etc/{chunk_index}",
        "a\0{chunk_index}",
        "",
        None,
        3,
    ):
        with pytest.raises(DatasetError, match=r"info\.json: video_path .* is unusable"):
            fill(template)
