"""Reads the columns of parquet files; a file that cannot be used is refused with its name and the reason."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ur10e_act.dataset.dataset_error import DatasetError, damaged
from ur10e_act.errors import one_line


def read_table(
    path: Path, columns: Sequence[str], image_columns: Sequence[str] = (), everything: bool = False
) -> pa.Table:
    """Read columns of a parquet file (or everything); image columns are checked for, but not read."""
    if not path.is_file():
        raise damaged(path, "missing")
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            missing = [name for name in [*columns, *image_columns] if name not in file.schema_arrow.names]
            if missing:
                raise damaged(path, f"the column {missing[0]} is missing")
            for name in image_columns:
                _check_images(path, file, name)
            return file.read(None if everything else list(columns))
    except (pa.ArrowException, OSError) as error:
        raise damaged(path, f"cut or damaged, cannot be read as parquet ({one_line(error)})") from error


def _check_images(path: Path, file: pq.ParquetFile, name: str) -> None:
    """Refuse an image column without bytes, as far as the footer tells."""
    kind = file.schema_arrow.field(name).type
    if not pa.types.is_struct(kind) or kind.get_field_index("bytes") < 0:
        raise damaged(path, f"the column {name} holds {kind} instead of images (bytes, path)")
    for group in range(file.metadata.num_row_groups):
        row_group = file.metadata.row_group(group)
        for column in map(row_group.column, range(row_group.num_columns)):
            statistics = column.statistics if column.path_in_schema == f"{name}.bytes" else None
            if statistics is not None and statistics.has_null_count and statistics.null_count:
                raise DatasetError(
                    f"{path}: {statistics.null_count} rows of {name} hold no image bytes; "
                    "write the dataset again with its images embedded"
                )


def to_vectors(column: pa.ChunkedArray, width: int, path: Path, name: str) -> np.ndarray:
    """A column as (n, width): fixed-size lists, plain lists (lerobot's tools) or plain values."""
    kind = column.type
    if pa.types.is_fixed_size_list(kind) or pa.types.is_list(kind) or pa.types.is_large_list(kind):
        if column.null_count or pc.any(pc.not_equal(pc.list_value_length(column), width)).as_py():
            raise damaged(path, f"{name} has rows that are not {width} values long, as meta/info.json says")
        column = pc.list_flatten(column)
    elif width != 1:
        raise damaged(path, f"{name} holds {kind} instead of {width} values a row, as meta/info.json says")
    if column.null_count:
        raise damaged(path, f"{name} has empty rows")
    if not pa.types.is_floating(column.type) and not pa.types.is_integer(column.type):
        raise damaged(path, f"{name} holds {column.type} instead of numbers")
    return column.to_numpy().reshape(-1, width)
