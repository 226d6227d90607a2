"""The content hash: equal for equal content, changed by any change."""

from dataclasses import replace

import numpy as np
import pytest

from nhdata.recording import Series, Spikes
from nhdata.store.digest import content_hash
from nhdata.store.ticks import session_clock, sorted_ticks


def hash_of(recording):
    clock = session_clock(recording.spikes, recording.stop_s)
    return content_hash(recording, clock, *sorted_ticks(recording.spikes, clock))


def test_the_order_of_spikes_and_of_columns_does_not_count(recording):
    one = recording()
    order = np.random.default_rng(0).permutation(one.spikes.time.size)
    other = replace(
        one,
        spikes=Spikes(one.spikes.time[order], one.spikes.unit[order].astype(np.int8)),
        units=dict(reversed(one.units.items())),
        intervals=dict(reversed(one.intervals.items())),
    )
    assert hash_of(other) == hash_of(one)


def test_the_kind_of_number_does_not_count(recording):
    one = recording(stop_s=20.0)
    assert hash_of(replace(one, stop_s=np.float64(20.0))) == hash_of(replace(one, stop_s=20)) == hash_of(one)
    samples = [Spikes(np.arange(3), np.arange(3), rate_hz) for rate_hz in (30000.0, 30000, np.float64(30000.0))]
    assert len({hash_of(replace(one, spikes=spikes)) for spikes in samples}) == 1


def moved_spike(recording):
    time = recording.spikes.time.copy()
    time[17] += 2e-6
    return {"spikes": replace(recording.spikes, time=time)}


def other_unit(recording):
    unit = recording.spikes.unit.copy()
    unit[17] = (unit[17] + 1) % 4
    return {"spikes": replace(recording.spikes, unit=unit)}


def units_with(name, value):
    return lambda recording: {"units": {**recording.units, name: value}}


def trials_with(name, value):
    return lambda recording: {
        "intervals": {**recording.intervals, "trials": {**recording.intervals["trials"], name: value}}
    }


def series_with(**change):
    return lambda recording: {"series": {**recording.series, "xy": replace(recording.series["xy"], **change)}}


@pytest.mark.parametrize(
    "change",
    [
        moved_spike,
        other_unit,
        lambda r: {"spikes": Spikes(r.spikes.time[:-1], r.spikes.unit[:-1])},
        lambda r: {"stop_s": r.stop_s + 1},
        lambda r: {"session_id": "mouse-2"},
        lambda r: {"source": "other"},
        lambda r: {"subject": "M2"},
        lambda r: {"lab": None},
        lambda r: {"date": "2024-03-01"},
        units_with("region", np.array(["CA1", "", "", "Área 3ª / β", "CA3"], dtype=object)),
        units_with("region", np.array(["CA1", "", "Área 3ª / β", "", "CA1"], dtype=object)),
        units_with("depth_um", np.array([20.0, np.nan, -1.5, 0.5, np.inf])),
        units_with("putative", np.array([True, False, True, True, True])),
        units_with("more", np.arange(5)),
        trials_with("stop_s", np.array([2.0, 6.0, 9.0])),
        lambda r: {"intervals": {"trials": r.intervals["trials"]}},
        lambda r: {"intervals": {"blocks": r.intervals["trials"], "empty": r.intervals["empty"]}},
        series_with(unit="m"),
        series_with(time_s=np.arange(5.0) + 0.1),
        series_with(value=np.zeros((5, 2), np.float32)),
        lambda r: {"series": {"xy": Series(np.arange(5.0), r.series["xy"].value[:, :1], "cm")}},
    ],
)
def test_any_change_of_content_changes_the_hash(recording, change):
    one = recording()
    assert hash_of(replace(one, **change(one))) != hash_of(one)


def test_missing_text_is_one_thing_however_the_source_writes_it(recording):
    one = recording()
    region = np.array(["CA1", "", None, "Área 3ª / β", "CA1"], dtype=object)
    assert hash_of(replace(one, units={**one.units, "region": region})) == hash_of(one)
