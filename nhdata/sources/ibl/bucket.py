"""IBL's public S3 bucket, read without a login: what is there, and where to get it.

Sessions lie under ``data/lab/Subjects/subject/date/number/``, as in a ONE cache folder, but each file's name carries
its data set's UUID before the extension. S3's ListObjectsV2 tells names, sizes and ETags; an ETag is the MD5 of the
content unless the file was uploaded in parts, when it has a dash.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from urllib.parse import quote

from nhdata.sources._http import Http, NetworkError
from nhdata.sources.ibl.alf import probe_folders
from nhdata.sources.ibl.alf_session import SessionName
from nhdata.sources.ibl.download import RemoteFile
from nhdata.sources.ibl.list import session_name


@dataclass(frozen=True, slots=True)
class Bucket:
    """A bucket at an address such as ``https://ibl-brain-wide-map-public.s3.amazonaws.com``."""

    url: str
    http: Http

    def session_files(self, name: SessionName) -> dict[PurePosixPath, RemoteFile]:
        """Files of a session, by path relative to its folder ``alf`` (UUIDs included)."""
        prefix = f"data/{name.path.as_posix()}/alf/"
        files = {}
        for page in self._pages(prefix, delimiter=""):
            for entry in page.iter("Contents"):
                key, size, etag = (entry.findtext(tag, "") for tag in ("Key", "Size", "ETag"))
                if not key.startswith(prefix) or not size.isdecimal():
                    raise self._nonsense(prefix)
                if not all(part not in ("", ".", "..") for part in key.split("/")):
                    continue  # a folder's own entry, or a path that would leave the folder
                md5 = etag.strip('"')
                url = f"{self.url}/{quote(key)}"
                known = md5 if re.fullmatch(r"[0-9a-f]{32}", md5) else None
                files[PurePosixPath(key[len(prefix) :])] = RemoteFile(url, int(size), known)
        return files

    def sessions_with_spikes(self) -> Iterator[SessionName]:
        """All sessions that have spike sorting, by lab, subject, date and number; asks the server as it goes."""
        for lab in self._folders("data/"):
            for subject in self._folders(f"{lab}Subjects/"):
                for date in self._folders(subject):
                    for number in self._folders(date):
                        parts = PurePosixPath(number).parts[1:]
                        name = session_name(parts[0], *parts[2:]) if len(parts) == 5 else None
                        if name is not None and self.has_spikes(name):
                            yield name

    def has_spikes(self, name: SessionName) -> bool:
        """Whether a session has spike sorting."""
        return bool(probe_folders(self.session_files(name)))

    def _folders(self, prefix: str) -> list[str]:
        pages = self._pages(prefix, delimiter="/")
        found = (entry.findtext("Prefix", "") for page in pages for entry in page.iter("CommonPrefixes"))
        return [folder for folder in found if folder.startswith(prefix)]

    def _pages(self, prefix: str, delimiter: str) -> Iterator[ElementTree.Element]:
        params = {"list-type": "2", "prefix": prefix} | ({"delimiter": delimiter} if delimiter else {})
        seen = set()
        while True:
            try:
                page = ElementTree.fromstring(self.http.read(f"{self.url}/", params=params))
            except ElementTree.ParseError:
                raise self._nonsense(prefix) from None
            for element in page.iter():
                element.tag = element.tag.rpartition("}")[2]  # without the namespace
            yield page
            if page.findtext("IsTruncated") != "true":
                return
            params["continuation-token"] = token = page.findtext("NextContinuationToken", "")
            if not token or token in seen:
                raise self._nonsense(prefix)
            seen.add(token)

    def _nonsense(self, prefix: str) -> NetworkError:
        return NetworkError(self.url, f"answers something else than a list of '{prefix}'", "check NH_IBL_S3_URL")
