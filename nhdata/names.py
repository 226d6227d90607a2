"""Names from outside, made safe for columns, tables and the nodes of a store."""

from __future__ import annotations

import re
from collections.abc import Collection
from itertools import count

MAX_CHARS = 128


def safe_name(text: str) -> str:
    """`text` in letters, digits and ``_`` only, `MAX_CHARS` of them at most.

    Examples
    --------
    >>> safe_name("RT (ms)"), safe_name("../x"), safe_name("..")
    ('RT_ms', 'x', 'unnamed')
    """
    return re.sub(r"[^A-Za-z0-9_]+", "_", text).strip("_")[:MAX_CHARS].rstrip("_") or "unnamed"


def free_name(name: str, taken: Collection[str]) -> str:
    """Return a safe name that is not in `taken`, all lower case, in any mixture of capitals: ``x``, ``x_2`` and so on.

    Examples
    --------
    >>> free_name("RT (ms)", {"rt_ms"}), free_name("反应", set())
    ('RT_ms_2', 'unnamed')
    """
    safe = safe_name(name)
    return next(one for k in count(1) if (one := safe if k == 1 else f"{safe}_{k}").lower() not in taken)
