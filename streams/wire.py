"""Messages of many readings: columnar JSON, Arrow, or a single event, told apart by their content type.

Columns of both columnar forms, in any order; those with a star must be there:

- ``source``*, ``sensor``*, ``mode``, ``to_sensor``, ``direction``: text, null for none.
- ``id``*: text; "" or null has one made from the row, which is slow.
- ``start_ms``*, ``end_ms``*, ``received_ms``*: int64, ms since the epoch, UTC.
- those of :data:`streams.readings.NUMBERS`: float64, null or NaN for unknown.
- ``simulated``: true or false.
- ``extra``: unknown keys of the rows that have some.

A message that does not fit is refused as a whole, by the name of the column; a row that is wrong in itself,
as one without a time or with a count below 0, is for :class:`streams.steps.StepBuffer` to refuse.
"""

from __future__ import annotations

import importlib
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from streams.codec import CodecError
from streams.observation import KNOWN_KEYS, MAX_BYTES, MAX_DEPTH, RejectedError, json_depth, parse_observation
from streams.readings import NO_TIME, NUMBERS, ReadingTable
from streams.texts import NO_TEXTS, Coded, Texts
from streams.topics import VERSION, Topic

ARROW = "application/vnd.apache.arrow.stream"
COLUMNS = "application/vnd.twinroom.columns+json"
EVENT = "application/json"
MAX_ROWS = 100_000  # of one message; a gateway sends 200 to 1,000
TEXTS = ("source", "sensor", "to_sensor", "direction", "mode")
TIMES = ("start_ms", "end_ms", "received_ms")
NEEDED = ("source", "sensor", "id", *TIMES)
ALLOWED = {*TEXTS, *TIMES, *NUMBERS, "id", "simulated", "extra"}
_VERSION_KEY = b"twinroom.version"


def encode_readings(table: ReadingTable, content_type: str = COLUMNS) -> bytes:
    """Message of many readings; columns that say nothing are left out."""
    if content_type == COLUMNS:
        return _encode_json(table)
    if content_type == ARROW:
        return _encode_arrow(table)
    raise CodecError(f"content type: got {content_type!r}, expected {COLUMNS} or {ARROW}")


def decode_readings(raw: bytes, content_type: str = COLUMNS) -> ReadingTable:
    """Readings of a message; the rows of a columnar one are not checked yet.

    Raises
    ------
    CodecError
        For another content type, version or column, a column that is missing, of another type or length.
    RejectedError
        For a single event that may not enter.
    """
    base = _base(content_type)
    if base == ARROW:
        return _decode_arrow(raw)
    if base == COLUMNS:
        return _decode_json(raw)
    if base == EVENT:
        return ReadingTable.of([parse_observation(raw)])
    raise CodecError(f"content type: got {content_type!r}, expected {COLUMNS}, {ARROW} or {EVENT}")


@dataclass(frozen=True, slots=True)
class Decoded:
    """Several messages decoded together.

    Attributes
    ----------
    tables : sequence of ReadingTable
        Their rows, in order of the messages.
    n_rows : (n_messages,) int64
        Rows of each message; 0 for one that was refused.
    refused : mapping of int to CodecError or RejectedError
        By the number of the message.
    """

    tables: Sequence[ReadingTable]
    n_rows: NDArray[np.int64]
    refused: Mapping[int, CodecError | RejectedError]


def decode_together(messages: Sequence[tuple[bytes, str]]) -> Decoded:
    """What :func:`decode_readings` makes of each message and its content type, in one go.

    Of Arrow messages of one schema the columns are put together before they become arrays: 16 of 500 rows
    take half the time that they take one by one.
    """
    tables: list[ReadingTable] = []
    n_rows = np.zeros(len(messages), dtype=np.int64)
    refused: dict[int, CodecError | RejectedError] = {}
    batches: list[Any] = []
    for k, (raw, content_type) in enumerate(messages):
        try:
            if _base(content_type) != ARROW:
                table = decode_readings(raw, content_type)
                n_rows[k] = table.n_rows
                _end_batches(batches, tables)
                tables.append(table)
                continue
            batch = _arrow_batch(raw)
        except (CodecError, RejectedError) as error:
            refused[k] = error
            continue
        n_rows[k] = batch.num_rows
        if batches and not batch.schema.equals(batches[0].schema):
            _end_batches(batches, tables)
        batches.append(batch)
    _end_batches(batches, tables)
    return Decoded(tables, n_rows, refused)


def _end_batches(batches: list[Any], tables: list[ReadingTable]) -> None:
    if batches:
        tables.append(_arrow_table(batches))
        batches.clear()


def _base(content_type: str) -> str:
    return content_type.partition(";")[0].strip().lower()


def _said(table: ReadingTable) -> tuple[list[str], bool]:
    """Text columns that say something beside those needed, and whether a row is simulated."""
    said = [name for name in TEXTS if name in NEEDED or (getattr(table, name).codes >= 0).any()]
    return said, bool(table.simulated.any())


# Columnar JSON: {"version": 1, "topic": "observations", "rows": n, "columns": {name: column}}. A column is an
# array; or one value for all rows; or, of text, {"names": [...], "at": [...]} with places among the names or
# null. "extra" is an object of objects by the number of the row, from 0.


def _encode_json(table: ReadingTable) -> bytes:
    said, is_simulated = _said(table)
    columns: dict[str, Any] = {name: _coded_json(getattr(table, name)) for name in said}
    columns |= {name: np.ascontiguousarray(getattr(table, name)) for name in TIMES}
    columns["id"] = table.event_id.texts()
    for name, column in table.numbers.items():
        is_same = column.size > 0 and (column == column[0]).all()
        columns[name] = float(column[0]) if is_same else np.ascontiguousarray(column)
    if is_simulated:
        columns["simulated"] = True if table.simulated.all() else np.ascontiguousarray(table.simulated)
    if table.extra:
        columns["extra"] = {str(k): dict(extra) for k, extra in table.extra.items()}
    message = {
        "version": VERSION,
        "topic": Topic.OBSERVATIONS.value,
        "rows": table.n_rows,
        "columns": columns,
    }
    return orjson.dumps(message, option=orjson.OPT_SERIALIZE_NUMPY)


def _coded_json(column: Coded) -> Any:
    used, at = np.unique(column.codes, return_inverse=True)
    if used.size <= 1:
        return column.text(0) if used.size else []
    known = column.names.take(used[used >= 0].astype(np.int64)).texts()
    names: list[str | None] = [None, *known] if used[0] < 0 else list(known)
    if used.size * 2 > column.codes.size:
        return [names[k] for k in at.tolist()]
    if names[0] is None:
        return {"names": names[1:], "at": [None if k == 0 else k - 1 for k in at.tolist()]}
    return {"names": names, "at": at}


def _decode_json(raw: bytes) -> ReadingTable:
    try:
        message = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise CodecError(f"message: not valid JSON: {error}") from error
    if not isinstance(message, dict):
        raise CodecError(f"message: expected an object, got {type(message).__name__}")
    if message.get("version") != VERSION:
        raise CodecError(f"version: got {message.get('version')!r}, expected {VERSION}")
    if message.get("topic") != Topic.OBSERVATIONS.value:
        raise CodecError(f"topic: got {message.get('topic')!r}, expected {Topic.OBSERVATIONS.value}")
    n = message.get("rows")
    if type(n) is not int or not 0 <= n <= MAX_ROWS:
        raise CodecError(f"rows: got {n!r}, expected a number from 0 to {MAX_ROWS}")
    columns = message.get("columns")
    if not isinstance(columns, dict):
        raise CodecError(f"columns: expected an object, got {type(columns).__name__}")
    _check_names(columns)
    simulated = columns.get("simulated", False)
    texts: dict[str, Any] = {name: _text_column(name, columns.get(name), n) for name in TEXTS}
    times: dict[str, Any] = {name: _time_column(name, columns[name], n) for name in TIMES}
    return ReadingTable(
        **texts,
        **times,
        numbers={name: _number_column(name, columns[name], n) for name in NUMBERS if name in columns},
        simulated=_flag_column("simulated", simulated, n),
        event_id=_id_column(columns["id"], n),
        extra=_extra(columns.get("extra", {}), n),
    )


def _check_names(columns: Mapping[str, Any]) -> None:
    for name in NEEDED:
        if name not in columns:
            raise CodecError(f"columns.{name}: is missing, expected {', '.join(NEEDED)}")
    if not columns.keys() <= ALLOWED:
        unknown = sorted(columns.keys() - ALLOWED)[0]
        raise CodecError(f"columns.{unknown[:80]}: is unknown, expected one of {', '.join(sorted(ALLOWED))}")


def _rows_of(name: str, values: list[Any], n: int) -> None:
    if len(values) != n:
        raise CodecError(f"columns.{name}: got {len(values)} values, expected {n}")


def _wrong(name: str, values: list[Any], types: tuple[type, ...], expected: str) -> CodecError:
    """What is said of the first value of another type."""
    for k, value in enumerate(values):
        if type(value) not in types:
            return CodecError(f"columns.{name}[{k}]: got {value!r:.80}, expected {expected}")
    return CodecError(f"columns.{name}: got a number out of range, expected {expected}")


def _packed(values: list[Any], code: str) -> NDArray[Any] | None:
    """A list of numbers as an array; None where it holds something else, or might."""
    try:
        packed = struct.pack(f"{len(values)}{code}", *values)
    except struct.error:
        return None
    column = np.frombuffer(packed, dtype=np.dtype(code))
    if ((column == 0) | (column == 1)).any() and bool in set(map(type, values)):
        return None  # true and false are packed as 1 and 0
    return column


def _time_column(name: str, values: Any, n: int) -> NDArray[np.int64]:
    if not isinstance(values, list):
        values = [values] * n
    _rows_of(name, values, n)
    column = _packed(values, "q")
    if column is not None:
        return column
    types, expected = (int, type(None)), "ms since the epoch as a whole number, or null"
    if not set(map(type, values)) <= set(types):
        raise _wrong(name, values, types, expected)
    column = _packed([NO_TIME if value is None else value for value in values], "q")
    if column is None:
        raise _wrong(name, values, types, expected)
    return column


def _number_column(name: str, values: Any, n: int) -> NDArray[np.float64]:
    types = (int, float, type(None))
    if not isinstance(values, list):
        if type(values) not in types:
            raise _wrong(name, [values], types, "numbers or null")
        return np.full(n, np.nan if values is None else float(values))
    _rows_of(name, values, n)
    column = _packed(values, "d")
    if column is not None:
        return column
    if not set(map(type, values)) <= set(types):
        raise _wrong(name, values, types, "numbers or null")
    return np.array(values, dtype=np.float64)


def _flag_column(name: str, values: Any, n: int) -> NDArray[np.bool_]:
    if isinstance(values, bool):
        return np.full(n, values)
    if not isinstance(values, list):
        raise _wrong(name, [values], (), "true or false")
    _rows_of(name, values, n)
    if not set(map(type, values)) <= {bool}:
        raise _wrong(name, values, (bool,), "true or false")
    return np.array(values, dtype=np.bool_)


def _id_column(values: Any, n: int) -> Texts:
    if not isinstance(values, list):
        values = [values] * n
    _rows_of("id", values, n)
    try:
        return Texts.of(values)
    except TypeError:
        types = (str, type(None))
        if not set(map(type, values)) <= set(types):
            raise _wrong("id", values, types, "text or null") from None
        return Texts.of([value or "" for value in values])


def _text_column(name: str, values: Any, n: int) -> Coded:
    if values is None or isinstance(values, str):
        return Coded.same(values, n)
    if isinstance(values, list):
        _rows_of(name, values, n)
        try:
            return Coded(np.arange(n, dtype=np.int32), Texts.of(values))
        except TypeError:
            types = (str, type(None))
            if not set(map(type, values)) <= set(types):
                raise _wrong(name, values, types, "text or null") from None
            return Coded.of(values)
    names, at = (values.get(k) for k in ("names", "at")) if isinstance(values, dict) else (None, None)
    if not isinstance(names, list) or not isinstance(at, list):
        raise _wrong(name, [values], (), "text, or names and their places")
    _rows_of(f"{name}.at", at, n)
    try:
        known = Texts.of(names)
    except TypeError:
        raise _wrong(f"{name}.names", names, (str,), "text") from None
    expected = f"whole numbers from 0 to {len(names) - 1}, or null"
    codes = _packed(at, "i")
    if codes is not None:
        is_in_range = bool((codes >= 0).all())
    else:
        if not set(map(type, at)) <= {int, type(None)}:
            raise _wrong(f"{name}.at", at, (int, type(None)), expected)
        is_in_range = all(k is None or 0 <= k < len(names) for k in at)
        codes = np.array([-1 if k is None or not is_in_range else k for k in at], dtype=np.int32)
    if not is_in_range or codes.max(initial=-1) >= len(names):
        raise CodecError(f"columns.{name}.at: got a place out of range, expected {expected}")
    return Coded(codes, known)


def _extra(values: Any, n: int) -> dict[int, dict[str, Any]]:
    if not isinstance(values, dict):
        raise _wrong("extra", [values], (), "an object of objects by the number of the row")
    found = {}
    for row, extra in values.items():
        if not (row.isascii() and row.isdigit() and int(row) < n):
            raise CodecError(f"columns.extra: got row {row[:20]!r}, expected a number below {n}")
        found[int(row)] = _checked_extra(int(row), extra, orjson.dumps(extra))
    return found


def _checked_extra(row: int, extra: Any, raw: bytes) -> dict[str, Any]:
    if not isinstance(extra, dict):
        raise _wrong(f"extra.{row}", [extra], (), "an object")
    known = extra.keys() & KNOWN_KEYS
    if known:
        raise CodecError(f"columns.extra.{row}: got the key {min(known)!r}, which is a column of its own")
    if len(raw) > MAX_BYTES or json_depth(raw) >= MAX_DEPTH:
        raise CodecError(
            f"columns.extra.{row}: got {len(raw)} bytes, {json_depth(raw)} deep; allowed {MAX_BYTES} and "
            f"{MAX_DEPTH - 1}"
        )
    return extra


# Arrow: one record batch in an IPC stream, or several, with the version in the metadata of the schema. Texts
# are utf8, or dictionaries of them; "extra" is the JSON text of an object, or null.


@cache
def _pa() -> Any:
    """pyarrow, which only the distributed engine needs."""
    try:
        return importlib.import_module("pyarrow")
    except ImportError as error:
        raise CodecError("content type: Arrow needs pyarrow: pip install 'twinroom[distributed]'") from error


def _encode_arrow(table: ReadingTable) -> bytes:
    pa = _pa()
    said, is_simulated = _said(table)
    columns: dict[str, Any] = {name: _coded_arrow(getattr(table, name)) for name in said}
    columns |= {name: pa.array(getattr(table, name)) for name in TIMES}
    columns["id"] = _arrow_texts(table.event_id)
    columns |= {name: pa.array(column) for name, column in table.numbers.items()}
    if is_simulated:
        columns["simulated"] = pa.array(table.simulated)
    if table.extra:
        rows = [table.extra.get(k) for k in range(table.n_rows)]
        columns["extra"] = pa.array(
            [orjson.dumps(dict(e)).decode() if e else None for e in rows], pa.string()
        )
    schema = pa.schema(
        [pa.field(name, column.type) for name, column in columns.items()],
        metadata={_VERSION_KEY: str(VERSION).encode()},
    )
    out = pa.BufferOutputStream()
    with pa.ipc.new_stream(out, schema) as writer:
        writer.write_batch(pa.record_batch(list(columns.values()), schema=schema))
    encoded: bytes = out.getvalue().to_pybytes()
    return encoded


def _arrow_texts(texts: Texts) -> Any:
    pa = _pa()
    start = texts.start.astype(np.int32)
    return pa.StringArray.from_buffers(len(texts), pa.py_buffer(start), pa.py_buffer(texts.data.tobytes()))


def _coded_arrow(column: Coded) -> Any:
    pa = _pa()
    used, at = np.unique(column.codes, return_inverse=True)
    if used.size * 2 > at.size and used[0] >= 0:
        return _arrow_texts(column.names.take(column.codes.astype(np.int64)))
    n_none = int((used < 0).any())
    names = column.names.take(used[n_none:].astype(np.int64))
    at = at.astype(np.int32) - np.int32(n_none)
    return pa.DictionaryArray.from_arrays(pa.array(at, mask=at < 0), _arrow_texts(names))


def _decode_arrow(raw: bytes) -> ReadingTable:
    return _arrow_table([_arrow_batch(raw)])


def _arrow_batch(raw: bytes) -> Any:
    """Record batch of one message, with all that is used unchecked from here on checked."""
    pa = _pa()
    try:
        reader = pa.ipc.RecordBatchStreamReader(pa.py_buffer(raw))
        _check_schema(raw, reader.schema)
        batches = [batch for batch in reader if batch.num_rows]
        for batch in batches:
            batch.validate(full=True)  # offsets and places among names
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, OSError) as error:
        raise CodecError(f"message: not a valid Arrow stream: {str(error)[:200]}") from error
    n = sum(batch.num_rows for batch in batches)
    if n > MAX_ROWS:
        raise CodecError(f"rows: got {n}, expected at most {MAX_ROWS}")
    return batches[0] if len(batches) == 1 else _one_batch(batches, reader.schema)


def _one_batch(batches: Sequence[Any], schema: Any) -> Any:
    """Rows of several record batches of one schema, with one dictionary for each column."""
    pa = _pa()
    whole = pa.Table.from_batches(batches, schema=schema).unify_dictionaries().combine_chunks()
    return (whole.to_batches() or [pa.RecordBatch.from_pylist([], schema=schema)])[0]


def _arrow_table(batches: Sequence[Any]) -> ReadingTable:
    """Table of record batches of one schema."""
    schema = batches[0].schema
    batch = batches[0] if len(batches) == 1 else _one_batch(batches, schema)
    n = batch.num_rows
    columns = dict(zip(schema.names, batch.columns, strict=True))
    none = Coded.same(None, n)
    texts: dict[str, Any] = {
        name: _from_arrow_coded(columns[name]) if name in columns else none for name in TEXTS
    }
    times: dict[str, Any] = {name: _from_arrow_ints(columns[name]) for name in TIMES}
    return ReadingTable(
        **texts,
        **times,
        numbers={name: _from_arrow_floats(columns[name]) for name in NUMBERS if name in columns},
        simulated=_from_arrow_flags(columns.get("simulated"), n),
        event_id=_from_arrow_texts(columns["id"]),
        extra=_from_arrow_extra(columns.get("extra")),
    )


_known_schemas: set[bytes] = set()


def _check_schema(raw: bytes, schema: Any) -> None:
    """Refuse a schema that does not fit; one that was seen before, byte for byte, is known to fit."""
    start = raw[: 8 + int.from_bytes(raw[4:8], "little")]
    if start in _known_schemas:
        return
    version = (schema.metadata or {}).get(_VERSION_KEY)
    if version != str(VERSION).encode():
        raise CodecError(f"version: got {version!r} in {_VERSION_KEY.decode()}, expected {VERSION}")
    if len(set(schema.names)) != len(schema.names):
        raise CodecError(f"columns: got one name twice: {', '.join(schema.names)[:200]}")
    _check_names(dict.fromkeys(schema.names))
    _check_types(schema)
    if len(_known_schemas) >= 100:  # of a producer that sends another each time
        _known_schemas.clear()
    _known_schemas.add(start)


def _check_types(schema: Any) -> None:
    pa = _pa()
    expected = {
        **dict.fromkeys(TIMES, pa.int64()),
        **dict.fromkeys(NUMBERS, pa.float64()),
        "id": pa.string(),
        "extra": pa.string(),
        "simulated": pa.bool_(),
    }
    for name, kind in zip(schema.names, schema.types, strict=True):
        if name in TEXTS:
            is_coded = pa.types.is_dictionary(kind) and kind.value_type == pa.string()
            if kind != pa.string() and not (is_coded and kind.index_type == pa.int32()):
                raise CodecError(
                    f"columns.{name}: got {kind}, expected string or dictionary<values=string, indices=int32>"
                )
        elif kind != expected[name]:
            raise CodecError(f"columns.{name}: got {kind}, expected {expected[name]}")


def _values(column: Any, dtype: type[np.generic]) -> NDArray[Any]:
    """The values of a column of fixed width as they lie, those of nulls too."""
    width = np.dtype(dtype).itemsize
    buffer = column.buffers()[1]
    if buffer is None:
        return np.empty(0, dtype=dtype)
    return np.frombuffer(buffer, dtype=dtype, count=len(column), offset=column.offset * width)


def _is_null(column: Any) -> NDArray[np.bool_]:
    return np.asarray(column.is_null().to_numpy(zero_copy_only=False), dtype=np.bool_)


def _from_arrow_ints(column: Any) -> NDArray[np.int64]:
    values = _values(column, np.int64)
    return np.where(_is_null(column), NO_TIME, values) if column.null_count else values


def _from_arrow_floats(column: Any) -> NDArray[np.float64]:
    values = _values(column, np.float64)
    return np.where(_is_null(column), np.nan, values) if column.null_count else values


def _from_arrow_flags(column: Any, n: int) -> NDArray[np.bool_]:
    if column is None:
        return np.zeros(n, dtype=np.bool_)
    if column.null_count:
        column = column.fill_null(False)
    return np.asarray(column.to_numpy(zero_copy_only=False), dtype=np.bool_)


def _from_arrow_texts(column: Any) -> Texts:
    if len(column) == 0:
        return NO_TEXTS
    if column.null_count:
        column = column.fill_null("")
    _, offsets, data = column.buffers()
    start = np.frombuffer(offsets, dtype=np.int32, count=len(column) + 1, offset=column.offset * 4)
    return Texts(np.frombuffer(data or b"", dtype=np.uint8), start)


def _from_arrow_coded(column: Any) -> Coded:
    pa = _pa()
    if not pa.types.is_dictionary(column.type):
        codes = np.arange(len(column), dtype=np.int32)
        if column.null_count:
            codes[_is_null(column)] = -1
        return Coded(codes, _from_arrow_texts(column))
    if column.dictionary.null_count:
        column = column.dictionary_decode().dictionary_encode()  # a null among the names becomes one of a row
    codes = _values(column.indices, np.int32)
    if column.null_count:
        codes = np.where(_is_null(column.indices), np.int32(-1), codes)
    return Coded(codes, _from_arrow_texts(column.dictionary))


def _from_arrow_extra(column: Any) -> dict[int, dict[str, Any]]:
    found: dict[int, dict[str, Any]] = {}
    for k, text in enumerate(column.to_pylist() if column is not None else ()):
        if text is None:
            continue
        try:
            extra = orjson.loads(text)
        except orjson.JSONDecodeError as error:
            raise CodecError(f"columns.extra.{k}: not valid JSON: {error}") from error
        found[k] = _checked_extra(k, extra, text.encode())
    return found
