"""Hypothesis without a deadline (a first call compiles), and fewer examples where the kernels run uncompiled."""

import os

import numba
from hypothesis import settings

settings.register_profile("kernels", deadline=None)
settings.register_profile("uncompiled", deadline=None, max_examples=int(os.environ.get("NH_EXAMPLES", "100")))
settings.load_profile("uncompiled" if numba.config.DISABLE_JIT else "kernels")
