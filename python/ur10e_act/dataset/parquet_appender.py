"""Appends rows to the parquet files of a dataset that is being written."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ur10e_act.dataset.layout import DATA_PATH, EPISODES_PATH, indices, link_files

EPISODES_A_ROW_GROUP = 100  # of meta/episodes


def create_parquet(path: Path, schema: pa.Schema) -> pq.ParquetWriter:
    path.parent.mkdir(parents=True, exist_ok=True)
    return pq.ParquetWriter(path, schema, compression="snappy", write_page_checksum=True)


class ParquetAppender:
    """Writes the files under ``root``/data: an episode is one row group, and many share a file.

    features: name -> {"dtype", "shape"} of each column, numpy dtype and (D,).
    limit: bytes, uncompressed, that a file does not grow beyond, unless one episode alone does.
    """

    def __init__(self, root: Path, features: Mapping[str, Mapping[str, Any]], limit: int) -> None:
        self._root, self._limit = root, limit
        self._schema = pa.schema([_field(name, feature) for name, feature in features.items()])
        self._row_bytes = sum(np.dtype(ft["dtype"]).itemsize * ft["shape"][0] for ft in features.values())
        self._number, self._size = -1, 0
        self._writer: pq.ParquetWriter | None = None

    def append(self, values: Mapping[str, np.ndarray]) -> dict[str, int]:
        """Appends an episode, (n, D) for each column; returns the chunk_index and file_index of its file."""
        arrays = []
        for name in self._schema.names:
            flat = pa.array(values[name].ravel())
            width = values[name].shape[1]
            arrays.append(flat if width == 1 else pa.FixedSizeListArray.from_arrays(flat, width))
        table = pa.Table.from_arrays(arrays, schema=self._schema)
        writer = self._writer
        if writer is None or self._size + len(table) * self._row_bytes > self._limit:
            writer = self._start_file(self._number + 1)
        self._write(writer, table)
        return indices(self._number)

    def resume(self, older: Path, number: int) -> None:
        """Starts at the end of the dataset at ``older``, whose last data file is ``number``.

        Full files are linked, the last one is copied by row groups.
        """
        link_files(older, self._root, DATA_PATH, number)
        source = pq.ParquetFile(older / DATA_PATH.format(**indices(number)))
        writer = self._start_file(number)
        for group in range(source.num_row_groups):
            # Reading makes the file's own metadata part of the schema, and so of what is written.
            self._write(writer, source.read_row_group(group).cast(self._schema))

    def read_back(self, name: str) -> Iterator[np.ndarray]:
        """A column of the closed files, float64 (n, D), an episode at a time."""
        for path in sorted((self._root / "data").glob("*/*.parquet")):
            file = pq.ParquetFile(path)
            for group in range(file.num_row_groups):
                column = file.read_row_group(group, columns=[name]).column(0).combine_chunks()
                flat = column.flatten() if pa.types.is_fixed_size_list(column.type) else column
                yield flat.to_numpy(zero_copy_only=False).astype(np.float64).reshape(len(column), -1)

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def _start_file(self, number: int) -> pq.ParquetWriter:
        self.close()
        self._number, self._size = number, 0
        self._writer = create_parquet(self._root / DATA_PATH.format(**indices(number)), self._schema)
        return self._writer

    def _write(self, writer: pq.ParquetWriter, table: pa.Table) -> None:
        writer.write_table(table, row_group_size=len(table))
        self._size += len(table) * self._row_bytes


class EpisodeTable:
    """Writes meta/episodes under ``root``, a row for each episode. Rows wait in memory for a row group."""

    def __init__(self, root: Path) -> None:
        self._path = root / EPISODES_PATH
        self._rows: list[Mapping[str, Any]] = []
        self._writer: pq.ParquetWriter | None = None

    def append(self, row: Mapping[str, Any]) -> None:
        self._rows.append(row)
        if len(self._rows) == EPISODES_A_ROW_GROUP:
            self.flush()

    def flush(self) -> None:
        """Writes the waiting rows as one row group."""
        if not self._rows:
            return
        table = pa.table({key: pa.array([row[key] for row in self._rows]) for key in self._rows[0]})
        if self._writer is None:
            self._writer = create_parquet(self._path, table.schema)
        self._writer.write_table(table)
        self._rows.clear()

    def close(self) -> None:
        """Closes the file; rows that wait are lost without ``flush``."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None


def _field(name: str, feature: Mapping[str, Any]) -> pa.Field:
    dtype, width = pa.from_numpy_dtype(np.dtype(feature["dtype"])), feature["shape"][0]
    return pa.field(name, dtype if width == 1 else pa.list_(dtype, width))
