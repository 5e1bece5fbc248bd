"""parquet_appender.py: where rows go, and that damage to them is noticed."""

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from written_dataset import columns, write

from ur10e_act.dataset.lerobot_dataset import open_dataset


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("written") / "dataset")


def test_file_numbers_go_on_in_the_next_chunk_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ur10e_act.dataset.layout.CHUNK_FILES", 2)
    root = write(tmp_path / "dataset", data_file_size_bytes=1, video_file_size_bytes=1)
    expected = [f"data/chunk-00{i}/file-00{j}.parquet" for i in (0, 1) for j in (0, 1)]
    assert sorted(str(path.relative_to(root)) for path in root.glob("data/*/*")) == expected
    np.testing.assert_array_equal(open_dataset([root]).read_states(3), columns(3)["observation.state"])


def test_pages_have_checksums_that_find_a_flipped_bit(written: Path, tmp_path: Path) -> None:
    source = written / "data" / "chunk-000" / "file-000.parquet"
    damaged = tmp_path / "file.parquet"
    actions = pq.read_metadata(source).row_group(1).column(1)
    content = bytearray(source.read_bytes())
    content[actions.data_page_offset + actions.total_compressed_size // 2] ^= 1
    damaged.write_bytes(content)
    pq.read_table(source, page_checksum_verification=True)
    with pytest.raises(OSError, match="CRC"):
        pq.read_table(damaged, page_checksum_verification=True)
