"""Names from outside, made safe for columns, tables and the nodes of a store."""

from __future__ import annotations

import re

MAX_CHARS = 128


def safe_name(text: str) -> str:
    """`text` in letters, digits and ``_`` only, `MAX_CHARS` of them at most.

    Examples
    --------
    >>> safe_name("RT (ms)"), safe_name("../x"), safe_name("..")
    ('RT_ms', 'x', 'unnamed')
    """
    return re.sub(r"[^A-Za-z0-9_]+", "_", text).strip("_")[:MAX_CHARS].rstrip("_") or "unnamed"
