"""Text files as streams of bytes: decompressed on the way, and refused as a whole if they are no UTF-8 text."""

from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from tunelift.errors import UserError
from tunelift.stages.curate.files import compression

if TYPE_CHECKING:
    from zstandard import ZstdDecompressionObj

BOM = b"\xef\xbb\xbf"
UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")
CHUNK = 1 << 14
"""Compressed bytes taken at once: zstd may make thousands of each."""
LARGEST_WINDOW = 1 << 31
"""`zstd --long=31`, the most that it writes."""
TOOLS = {".gz": "gzip", ".zst": "zstd"}


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """What the system says of a file, as a `UserError`."""
    try:
        yield
    except OSError as error:
        raise UserError(
            f"The file cannot be read ({error.strerror or error}).",
            where=str(path),
            remedy="Check its permissions and the disk.",
        ) from error


@contextmanager
def opened(path: Path) -> Iterator[IO[bytes]]:
    """Open a text file as bytes, decompressed and past a UTF-8 byte order mark.

    Raises:
        UserError: the file cannot be read, is no UTF-8 as a whole, or its archive is damaged; the last also while it
            is read.
    """
    with explained(path), path.open("rb") as file, _sound(path), _decompressed(file, path) as stream:
        head = stream.peek(64)[:64]
        if head.startswith(UTF16_MARKS) or b"\0" in head:
            kind = "UTF-16" if head.startswith(UTF16_MARKS) else "binary, or UTF-16 without a mark"
            raise UserError(f"The file is not UTF-8 text but {kind}.", where=str(path), remedy=_conversion(path))
        if head.startswith(BOM):
            stream.read(len(BOM))
        yield stream


def _decompressed(file: IO[bytes], path: Path) -> io.BufferedReader:
    match compression(path):
        case ".gz":
            return io.BufferedReader(gzip.GzipFile(fileobj=file, mode="rb"))
        case ".zst":
            return io.BufferedReader(_Zstandard(file))
        case _:
            return file  # type: ignore[return-value]


@contextmanager
def _sound(path: Path) -> Iterator[None]:
    """What decompression says of an archive, as a `UserError`."""
    from zstandard import ZstdError

    try:
        yield
    except (gzip.BadGzipFile, EOFError, zlib.error, ZstdError) as error:
        tool = TOOLS[compression(path)]
        raise UserError(
            f"The archive is damaged, or not made by {tool} ({str(error).rstrip('.')}).",
            where=str(path),
            remedy=f"Copy or download it again, and check it with `{tool} -t {path}`; "
            f"if it is not compressed, take {path.suffix} off its name.",
        ) from error


def _conversion(path: Path) -> str:
    pressed = compression(path)
    plain = path.with_name(path.name.removesuffix(path.suffix)) if pressed else path
    convert = "iconv -f UTF-16 -t UTF-8"
    command = f"{TOOLS[pressed]} -dc {path} | {convert}" if pressed else f"{convert} {path}"
    return f"Convert it: {command} > {plain.with_name(f'utf8-{plain.name}')}"


class _Zstandard(io.RawIOBase):
    """A zstd file's content, frame after frame; unlike the library's own reader it tells a file that was cut off."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._frame: ZstdDecompressionObj | None = None
        self._ready = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._ready:
            if not self._fill():
                return 0
        target = memoryview(buffer).cast("B")
        count = min(len(target), len(self._ready))
        target[:count], self._ready = self._ready[:count], self._ready[count:]
        return count

    def _fill(self) -> bool:
        """Decompress the next chunk; false at the end of the file."""
        from zstandard import ZstdDecompressor

        chunk = self._file.read(CHUNK)
        if not chunk:
            if self._frame is not None:
                raise EOFError("it ends in the middle of a frame")
            return False
        made = []
        while chunk:
            frame = self._frame or ZstdDecompressor(max_window_size=LARGEST_WINDOW).decompressobj()
            made.append(frame.decompress(chunk))
            chunk = frame.unused_data if frame.eof else b""
            self._frame = None if frame.eof else frame
        self._ready = memoryview(b"".join(made))
        return True
