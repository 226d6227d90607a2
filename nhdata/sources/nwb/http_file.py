"""A file on a web server, read in pieces: as much of it as HDF5 asks for."""

from __future__ import annotations

import io
from collections import OrderedDict
from typing import Any

from nhcatalog.errors import UserError
from nhdata.sources._http import Http, NetworkError, PassingTrouble

BLOCK = 1 << 20
MAX_BLOCKS = 64
"""Blocks that are kept: 64 MiB, whatever the size of the file."""


class HttpFile(io.RawIOBase):
    """A seekable file at an address whose server answers range requests.

    Neighbouring blocks are asked for together, and the last `MAX_BLOCKS` are kept. A file that changes while it is
    read is an error.

    Attributes
    ----------
    size : int
        Bytes.
    error : UserError or None
        What went wrong on a read: HDF5 says only that one did.
    etag : str
        The server's own name for this version of the file; '' if it gives none.

    Raises
    ------
    NetworkError
        On opening and on every read: no such file, no ranges, a server that stays silent or breaks off every time.
    """

    def __init__(self, url: str, http: Http | None = None) -> None:
        self.url = url
        self.http = http or Http()
        self.error: UserError | None = None
        self.etag = ""
        self.size = -1
        self._place = 0
        self._blocks: OrderedDict[int, bytes] = OrderedDict()
        self._fetch(0, 1)

    def __repr__(self) -> str:  # h5py names the file by this
        return self.url

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._place = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._place, io.SEEK_END: self.size}[whence]
        return self._place

    def tell(self) -> int:
        return self._place

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        start, stop = self._place, min(self._place + len(view), self.size)
        try:
            while self._place < stop:
                block, offset = divmod(self._place, BLOCK)
                if block not in self._blocks:
                    self._fetch(block, self._missing(block, stop))
                self._blocks.move_to_end(block)
                piece = self._blocks[block][offset : offset + stop - self._place]
                view[self._place - start : self._place - start + len(piece)] = piece
                self._place += len(piece)
        except NetworkError as error:
            self.error = UserError(error.problem, error.remedy)  # without its frames, which hold HDF5 open
            raise
        return max(stop - start, 0)

    def _missing(self, first: int, stop: int) -> int:
        """How many blocks in a row are needed and not there; half of what is kept at most."""
        n = 1
        while n < MAX_BLOCKS // 2 and (first + n) * BLOCK < stop and first + n not in self._blocks:
            n += 1
        return n

    def _fetch(self, first: int, n: int) -> None:
        start = first * BLOCK
        wanted = (first + n) * BLOCK if self.size < 0 else min((first + n) * BLOCK, self.size)
        body = self.http.patiently(self.url, lambda: self._range(start, wanted))
        for k in range(n):
            self._blocks[first + k] = body[k * BLOCK : (k + 1) * BLOCK]
        while len(self._blocks) > MAX_BLOCKS:
            self._blocks.popitem(last=False)

    def _range(self, start: int, stop: int) -> bytes:
        """Bytes ``[start, stop)``, or all there are of them on the first request, which also learns the size."""
        headers = {"Range": f"bytes={start}-{stop - 1}", "Accept-Encoding": "identity"}
        with self.http.open(self.url, headers=headers) as response:
            unit, _, span = response.headers.get("Content-Range", "").partition(" ")
            bounds, _, total = span.partition("/")
            if response.status_code != 206 or unit != "bytes" or not total.isdecimal():
                problem = "its server sends no parts of a file"
                raise NetworkError(self.url, problem, "download the file and name that")
            etag = response.headers.get("ETag", "")
            if self.size < 0:
                self.size, self.etag = int(total), etag
            elif (int(total), etag) != (self.size, self.etag):
                raise NetworkError(self.url, "changed while it was read", "start again")
            stop = min(stop, self.size)
            if bounds != f"{start}-{stop - 1}":
                raise NetworkError(self.url, f"sends bytes {bounds} for {start}-{stop - 1}", "download the file")
            body = bytearray()
            for piece in response.iter_content(1 << 16):
                body += piece
                if len(body) > stop - start:
                    raise NetworkError(self.url, "sends more than it was asked for", "download the file")
            if len(body) < stop - start:
                raise PassingTrouble("broke off in the middle of an answer")
            return bytes(body)
