"""The files of a place, whether it is a folder of this machine or an address in an object store."""

from __future__ import annotations

from nhcatalog.files import Files, LocalFiles
from nhcatalog.place import AnyPlace, Url, to_place


def open_files(place: AnyPlace) -> Files:
    """The files of a place; nothing is opened or asked for yet.

    Parameters
    ----------
    place : path, Url or str
        A folder, or ``s3://bucket/key``.
    """
    place = to_place(place)
    if isinstance(place, Url):
        from nhcatalog.objects import ObjectFiles  # obstore, for those who need it

        return ObjectFiles(place)
    return LocalFiles(place)
