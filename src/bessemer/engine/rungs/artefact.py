"""A rung at rest: `rung.json`, what it is, and `arrays.safetensors`, its numbers; both checked before they are used.

The arrays have the safetensors layout (8 bytes of header length, a JSON header of dtype, shape and offsets, the data),
read and written here with every bound checked before memory is taken: a file of unknown make is refused, never run.
`rung.json` holds the sha256 of the arrays, and the sha256 of `rung.json` names the whole. Equal fits have equal hashes:
nothing in either file depends on the clock or the machine.
"""

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from bessemer.core.bounds import Label, check_shape
from bessemer.core.errors import EngineError
from bessemer.core.types import JSON, Frozen
from bessemer.engine.rungs.texts import PackedTexts

FORMAT = 1
MANIFEST, ARRAYS = "rung.json", "arrays.safetensors"
MAX_MANIFEST = 1 << 20
"""Bytes of `rung.json`."""
MAX_ARRAYS = 1 << 29
"""Bytes of the arrays, unless the caller says otherwise."""
MAX_LABELS = 10_000
_TABLED, _WIDENED = 200, 8
"""Bytes of a text's place in a table, and of a byte of texts as code points."""
_MAX_HEADER = 1 << 20
_MAX_ARRAY_COUNT, _MAX_DIMENSIONS = 256, 3
_DTYPES: dict[str, type[np.generic]] = {
    "F64": np.float64,
    "F32": np.float32,
    "F16": np.float16,
    "I64": np.int64,
    "I32": np.int32,
    "I16": np.int16,
    "U8": np.uint8,
}
_NAMES = {np.dtype(dtype): name for name, dtype in _DTYPES.items()}
AnyArray = npt.NDArray[Any]
Finite = Annotated[float, msgspec.Meta(ge=-1e300, le=1e300)]


class Scope(Frozen, frozen=True):
    """From which values on a rung says that an input is none it was made for; None: the signal is not used."""

    known_share: Annotated[float, msgspec.Meta(ge=0, le=1)] | None = None
    """Least idf-weighted share of n-grams that the training inputs had."""
    distance: Annotated[float, msgspec.Meta(ge=0, le=1e300)] | None = None
    """Greatest distance to the training inputs."""


class RungManifest(Frozen, frozen=True):
    """What `rung.json` says."""

    format: int
    kind: Annotated[str, msgspec.Meta(max_length=64)]
    labels: Annotated[tuple[Label, ...], msgspec.Meta(min_length=1, max_length=MAX_LABELS)]
    parameters: JSON
    """Of the kind; each has its own type for them."""
    arrays_sha256: Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]
    bias: Annotated[tuple[Finite, ...], msgspec.Meta(max_length=MAX_LABELS)] = ()
    """Added to the labels' log-probabilities before the highest is answered; (): nothing."""
    scope: Scope = Scope()
    lineage: JSON = msgspec.field(default_factory=dict)
    """What it was fitted from; told, not needed to answer."""


class Artefact(NamedTuple):
    """A manifest and its arrays by name."""

    manifest: RungManifest
    arrays: Mapping[str, AnyArray]

    @property
    def sha256(self) -> str:
        """Return the hash that names it."""
        return hashlib.sha256(_manifest_bytes(self.manifest)).hexdigest()


def memory(artefact: Artefact) -> int:
    """Return the bytes that an opened rung takes at most: its arrays, half floats widened, and tables of its texts."""
    held = sum(array.nbytes * (3 if array.dtype == np.float16 else 1) for array in artefact.arrays.values())
    texts = {name: array for name, array in artefact.arrays.items() if name.endswith((".bytes", ".ends"))}
    return held + sum(len(one) * (_TABLED if name.endswith(".ends") else _WIDENED) for name, one in texts.items())


def make(
    kind: str,
    labels: Sequence[str],
    parameters: Frozen,
    arrays: Mapping[str, AnyArray],
    *,
    bias: Sequence[float] = (),
    scope: Scope | None = None,
    lineage: JSON | None = None,
) -> Artefact:
    """Return an artefact of a kind's parameters and arrays."""
    manifest = RungManifest(
        format=FORMAT,
        kind=kind,
        labels=tuple(labels),
        parameters=msgspec.to_builtins(parameters),
        bias=tuple(float(value) for value in bias),
        scope=scope or Scope(),
        lineage=lineage or {},
        arrays_sha256=hashlib.sha256(encode_arrays(arrays)).hexdigest(),
    )
    return Artefact(manifest, arrays)


def changed(artefact: Artefact, **changes: Any) -> Artefact:
    """Return the artefact with fields of its manifest changed."""
    return Artefact(msgspec.structs.replace(artefact.manifest, **changes), artefact.arrays)


def write(artefact: Artefact, folder: Path) -> None:
    """Write both files into a folder, which is made."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / ARRAYS).write_bytes(encode_arrays(artefact.arrays))
    (folder / MANIFEST).write_bytes(_manifest_bytes(artefact.manifest))


def read(folder: Path, *, sha256: str | None = None, max_bytes: int = MAX_ARRAYS) -> Artefact:
    """Read a folder; with `sha256`, that artefact and no other. Raises EngineError saying what is wrong with it."""
    try:
        sizes = [(folder / name).stat().st_size for name in (MANIFEST, ARRAYS)]
        if sizes[0] > MAX_MANIFEST or sizes[1] > max_bytes:
            raise EngineError(f"The rung in {str(folder)!r} is larger than {max_bytes} bytes.")
        manifest, arrays = ((folder / name).read_bytes() for name in (MANIFEST, ARRAYS))
    except OSError as error:
        raise EngineError(f"The rung in {str(folder)!r} cannot be read: {error}.") from error
    return decode(manifest, arrays, sha256=sha256, max_bytes=max_bytes)


def fetch(blob: Callable[[str], bytes], sha256: str) -> Artefact:
    """Return the artefact that a hash names, from a store of contents by hash. Raises EngineError, as `decode` does."""
    manifest = blob(sha256)
    return decode(manifest, blob(_read_manifest(manifest, sha256).arrays_sha256), sha256=sha256)


def encode(artefact: Artefact) -> tuple[bytes, bytes]:
    """Return the contents of both files: manifest, arrays."""
    return _manifest_bytes(artefact.manifest), encode_arrays(artefact.arrays)


def decode(manifest: bytes, arrays: bytes, *, sha256: str | None = None, max_bytes: int = MAX_ARRAYS) -> Artefact:
    """Return the artefact of both files' contents. Raises EngineError saying what is wrong."""
    if len(arrays) > max_bytes:
        raise EngineError(f"A rung is larger than {max_bytes} bytes.")
    told = _read_manifest(manifest, sha256)
    if hashlib.sha256(arrays).hexdigest() != told.arrays_sha256:
        raise EngineError(f"{ARRAYS} is not the one that {MANIFEST} names.")
    return Artefact(told, decode_arrays(arrays))


def _read_manifest(manifest: bytes, sha256: str | None) -> RungManifest:
    if len(manifest) > MAX_MANIFEST:
        raise EngineError(f"{MANIFEST} is larger than {MAX_MANIFEST} bytes.")
    if sha256 is not None and hashlib.sha256(manifest).hexdigest() != sha256:
        raise EngineError(f"{MANIFEST} is not the one whose sha256 is {sha256}.")
    try:
        check_shape(manifest)
        told = msgspec.json.decode(manifest, type=RungManifest)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise EngineError(f"{MANIFEST} is none: {error}.") from None
    if told.format != FORMAT:
        raise EngineError(f"{MANIFEST} has format {told.format}; this release reads {FORMAT}.")
    if len(set(told.labels)) < len(told.labels) or len(told.bias) not in (0, len(told.labels)):
        raise EngineError(f"{MANIFEST}: labels repeat, or the bias is not one for each.")
    return told


def _manifest_bytes(manifest: RungManifest) -> bytes:
    return msgspec.json.encode(manifest, order="deterministic")


# -- arrays -----------------------------------------------------------------------------------------------------------


class _Header(Frozen, frozen=True):
    dtype: str
    shape: tuple[Annotated[int, msgspec.Meta(ge=0, le=1 << 40)], ...]
    data_offsets: tuple[Annotated[int, msgspec.Meta(ge=0)], Annotated[int, msgspec.Meta(ge=0)]]


def encode_arrays(arrays: Mapping[str, AnyArray]) -> bytes:
    """Return arrays in the safetensors layout, sorted by name. Raises ValueError for a dtype it does not write."""
    headers: dict[str, JSON] = {}
    parts: list[bytes] = []
    end = 0
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        if array.dtype not in _NAMES:
            raise ValueError(f"array {name!r} has dtype {array.dtype}")
        parts.append(array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes())
        headers[name] = {
            "dtype": _NAMES[array.dtype],
            "shape": list(array.shape),
            "data_offsets": [end, end + len(parts[-1])],
        }
        end += len(parts[-1])
    header = msgspec.json.encode(headers)
    header += b" " * (-len(header) % 8)
    return len(header).to_bytes(8, "little") + header + b"".join(parts)


def decode_arrays(data: bytes) -> dict[str, AnyArray]:
    """Return the arrays, as views of the bytes. Raises EngineError for anything that `encode_arrays` does not write."""
    size = int.from_bytes(data[:8], "little")
    if len(data) < 8 or size > min(_MAX_HEADER, len(data) - 8):
        raise EngineError(f"{ARRAYS} has a header of {size} bytes.")
    try:
        check_shape(data[8 : 8 + size])
        headers = msgspec.json.decode(data[8 : 8 + size], type=dict[str, _Header])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise EngineError(f"{ARRAYS} has a header that is none: {error}.") from None
    if len(headers) > _MAX_ARRAY_COUNT:
        raise EngineError(f"{ARRAYS} has {len(headers)} arrays.")
    found: dict[str, AnyArray] = {}
    at = 8 + size
    for name, header in sorted(headers.items(), key=lambda pair: pair[1].data_offsets):
        begin, end = header.data_offsets
        if header.dtype not in _DTYPES or len(header.shape) > _MAX_DIMENSIONS or begin + 8 + size != at:
            raise EngineError(f"{ARRAYS}: {name[:64]!r} has a dtype, shape or place that is not allowed.")
        dtype = np.dtype(_DTYPES[header.dtype]).newbyteorder("<")
        if math.prod(header.shape) * dtype.itemsize != end - begin or end + 8 + size > len(data):
            raise EngineError(f"{ARRAYS}: {name[:64]!r} has bytes that do not fit its shape.")
        array = np.frombuffer(data, dtype, math.prod(header.shape), at).reshape(header.shape)
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise EngineError(f"{ARRAYS}: {name[:64]!r} has numbers that are not finite.")
        found[name] = array
        at = end + 8 + size
    if at != len(data):
        raise EngineError(f"{ARRAYS} has {len(data) - at} bytes that belong to no array.")
    return found


class Arrays:
    """Arrays as a kind of rung takes them: by name, with the dtype and shape that it needs."""

    def __init__(self, arrays: Mapping[str, AnyArray]) -> None:
        self._left = dict(arrays)

    def take(self, name: str, dtype: type[np.generic], *shape: int | None) -> AnyArray:
        """Return an array; None stands for any length. Raises EngineError when it is not there or another one."""
        array = self._left.pop(name, None)
        if array is None:
            raise EngineError(f"{ARRAYS} lacks {name!r}.")
        fits = len(array.shape) == len(shape) and all(
            want is None or have == want for have, want in zip(array.shape, shape, strict=True)
        )
        if array.dtype != np.dtype(dtype) or not fits:
            raise EngineError(f"{ARRAYS}: {name!r} is {array.dtype}{list(array.shape)}.")
        return array

    def texts(self, name: str, count: int | None = None) -> PackedTexts:
        """Return texts that `PackedTexts.arrays` named. Raises EngineError."""
        ends = self.take(name + ".ends", np.int64, count)
        found = PackedTexts(self.take(name + ".bytes", np.uint8, None), ends)
        if not found.valid():
            raise EngineError(f"{ARRAYS}: {name!r} is no UTF-8, or its texts end where none does.")
        return found

    def strings(self, name: str, count: int | None = None) -> list[str]:
        """Return such texts one by one. Raises EngineError."""
        return self.texts(name, count).strings()

    def done(self) -> None:
        """Raise EngineError when arrays are left that nobody took."""
        if self._left:
            raise EngineError(f"{ARRAYS} has arrays that this kind does not know: {sorted(self._left)[:3]}.")


def pack_strings(name: str, texts: Sequence[str]) -> dict[str, AnyArray]:
    """Return two arrays that hold texts: their bytes in one, and where each ends."""
    return PackedTexts.of(texts).arrays(name)
