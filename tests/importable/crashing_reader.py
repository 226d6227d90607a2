"""A reader that crashes as libhdf5 does on a damaged file; other processes import it."""

import os
import signal

from nhdata.ingest.run import carry_out
from nhdata.sources.phy.source import PhySource


class CrashingSource(PhySource):
    """Dies of the recording in a folder ``b``."""

    def load(self, ref):
        if ref.path.name == "b":
            os.kill(os.getpid(), signal.SIGSEGV)
        return super().load(ref)


def crashing_carry_out(job, ref):
    """`nhdata.ingest.run.carry_out` with `CrashingSource`, in a process that patches nothing else."""
    import nhdata.ingest.run as run_module

    run_module.open_source = lambda name, options: CrashingSource(options)
    return carry_out(job, ref)
