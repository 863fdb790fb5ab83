"""Tables of captions: JSON lines, CSV, TSV and parquet, read row by row.

A row that cannot be used becomes a BadItem in its place and says where it stands; a
file that cannot be used raises DataError.
"""

import csv
import dataclasses
import io
import json
import pathlib
from collections.abc import Iterator

from unijax.data.document import DataError
from unijax.data.images import BadItem

SUFFIXES = (".jsonl", ".csv", ".tsv", ".parquet")
FIX = "correct the row, or leave such items out with on_error='skip'"


@dataclasses.dataclass(frozen=True)
class Row:
  """One row: a picture's file and its caption, or what is wrong with the row."""

  place: str  # table and line, for messages
  file: str = ""
  caption: str = ""
  problem: BadItem | None = None


def read(path: pathlib.Path, image_column: str, caption_column: str) -> Iterator[Row]:
  """Yields the rows of a table; bytes that are no UTF-8 come as lone surrogates.

  Raises:
    DataError: file missing, of an unknown kind, or without one of the columns.
  """
  readers = {".jsonl": _jsonl, ".csv": _csv, ".tsv": _csv, ".parquet": _parquet}
  reader = readers.get(path.suffix.lower())
  if reader is None:
    raise DataError(
      f"captions {path}: unknown extension {path.suffix!r}; use one of "
      f"{', '.join(SUFFIXES)}"
    )
  if not path.is_file():
    raise DataError(f"captions {path}: no such file; give the path of the table")
  columns = (image_column, caption_column)
  for number, row in reader(path, columns):
    place = f"{path.name}:{number}"
    if isinstance(row, str):
      yield Row(place, problem=BadItem(place, "unreadable row", row, FIX))
      continue
    missing = [column for column in columns if row.get(column) is None]
    wrong = [c for c in columns if not isinstance(row.get(c), str | None)]
    if missing:
      has = ", ".join(str(c) for c, v in row.items() if v is not None)
      detail = f"no {' and no '.join(missing)} (it has: {has or 'nothing'})"
      yield Row(place, problem=BadItem(place, "missing value", detail, FIX))
    elif wrong:
      detail = f"{wrong[0]} is no text but {type(row[wrong[0]]).__name__}"
      yield Row(place, problem=BadItem(place, "wrong type", detail, FIX))
    else:
      yield Row(place, *(row[column] for column in columns))


def _text(path: pathlib.Path) -> io.StringIO:
  """Returns the file as text; bytes that are no UTF-8 become lone surrogates.

  They are found again, row by row, when the caption or file name is checked.
  """
  text = path.read_bytes().decode("utf-8", errors="surrogateescape")
  return io.StringIO(text.removeprefix("\ufeff"), newline="")


def _jsonl(path, columns):
  for number, line in enumerate(_text(path), 1):
    if not line.strip():
      continue
    try:
      row = json.loads(line)
    except ValueError as error:
      yield number, f"no JSON ({error})"
      continue
    yield number, row if isinstance(row, dict) else "no JSON object"


def _csv(path, columns):
  dialect = "excel-tab" if path.suffix.lower() == ".tsv" else "excel"
  rows = csv.DictReader(_text(path), dialect=dialect)
  _require(path, columns, rows.fieldnames or ())
  try:
    for row in rows:
      yield rows.line_num, {k: v for k, v in row.items() if k is not None}
  except csv.Error as error:
    raise DataError(f"captions {path}, line {rows.line_num}: {error}") from error


def _parquet(path, columns):
  table = open_parquet(path, columns)
  yield from enumerate(_parquet_rows(table, columns), 1)


def open_parquet(path: str | pathlib.Path, columns: tuple[str, ...]):
  """Returns a pyarrow.parquet.ParquetFile that has all the columns, as text.

  Raises DataError if it is no such file.
  """
  import pyarrow as pa
  import pyarrow.parquet as pq

  try:
    table = pq.ParquetFile(path)
  except (pa.ArrowException, OSError) as error:
    raise DataError(f"{path}: no parquet file ({error})") from error
  _require(path, columns, table.schema_arrow.names)
  for column in columns:
    kind = table.schema_arrow.field(column).type
    if not (pa.types.is_string(kind) or pa.types.is_large_string(kind)):
      raise DataError(
        f"{path}: column {column!r} is {kind}, not text; set image_column or "
        "caption_column (a source of kind 'parquet' reads pictures from a column)"
      )
  return table


def read_column(path: str | pathlib.Path, table, column: str) -> Iterator[Row]:
  """Yields a Row without a file for every caption of an open parquet file."""
  name = pathlib.Path(path).name
  for number, row in enumerate(_parquet_rows(table, (column,)), 1):
    place, caption = f"{name}:{number}", row[column]
    if caption is None:
      problem = BadItem(place, "missing value", f"no {column}", FIX)
      yield Row(place, problem=problem)
    else:
      yield Row(place, caption=caption)


def _parquet_rows(table, columns):
  """Yields {column: text or None}; bytes that are no UTF-8 become lone surrogates."""
  import pyarrow as pa

  for batch in table.iter_batches(columns=list(columns)):
    # As bytes first: one bad value must not spoil its whole batch.
    values = [batch.column(c).cast(pa.large_binary()).to_pylist() for c in columns]
    for row in zip(*values, strict=True):
      texts = (v if v is None else v.decode("utf-8", "surrogateescape") for v in row)
      yield dict(zip(columns, texts, strict=True))


def _require(path, columns, names):
  missing = [column for column in columns if column not in names]
  if missing:
    raise DataError(
      f"{path}: no column {' and no column '.join(map(repr, missing))}; "
      f"it has {', '.join(map(repr, names)) or 'none'}; set image_column or "
      "caption_column"
    )
