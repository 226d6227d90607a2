# /// script
# requires-python = ">=3.10,<3.12"
# dependencies = ["allensdk==2.16.2", "hdmf<4", "pynwb<3"]
# ///
"""What AllenSDK reads from session files: units, their probe and structure, and spike times, as ``.npz`` files.

uv run --script allensdk_reference.py FILE.nwb OUT.npz [FILE.nwb OUT.npz …]
"""

import sys
import warnings

import numpy as np
from allensdk.brain_observatory.ecephys.ecephys_session import EcephysSession

warnings.simplefilter("ignore")
for path, out in zip(sys.argv[1::2], sys.argv[2::2], strict=True):
    session = EcephysSession.from_nwb_path(path)
    units = session.units
    np.savez(
        out,
        unit=units.index.to_numpy(),
        probe=units["probe_description"].to_numpy(str),
        structure=units["structure_acronym"].to_numpy(str),
        depth_um=units["probe_vertical_position"].to_numpy(),
        time_s=np.concatenate([session.spike_times[unit] for unit in units.index]),
        n_spikes=[len(session.spike_times[unit]) for unit in units.index],
    )
