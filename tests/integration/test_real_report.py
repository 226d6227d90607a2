"""Reports of real recordings: what each of them has to show."""

from pathlib import Path

import pytest

import nhdata
from nhdata.ingest import ingest
from nhdata.report.page import to_html
from nhdata.report.pages import session_page, store_page

pytestmark = pytest.mark.realdata

PAGES = {
    "nwb/hc3": {"Position", "Units by probe", "Signals"},
    "nwb/human": {"Units by region", "Intervals"},
    "nwb/retina/Stafford2009_Beta2KO_37C_Temporal_2008-01-29-4.nwb": {"Places"},
}


@pytest.mark.parametrize("path", PAGES)
def test_a_page_shows_what_the_recording_has(realdata: Path, tmp_path: Path, path: str) -> None:
    assert len(ingest(tmp_path / "data.zarr", "nwb", [realdata / path]).ingested) == 1
    store = nhdata.open(tmp_path / "data.zarr")
    page = session_page(store.session(store.session_ids[0]))
    titles = {panel.title for panel in page.panels}
    assert titles >= {"Rates over the whole session", "Spikes", "Drift of rates", "Reference features", *PAGES[path]}
    assert not titles & (set().union(*PAGES.values()) - PAGES[path])
    assert len(to_html(page)) < 3_000_000
    assert f'<td class="l">{store.session_ids[0]}</td>' in to_html(store_page(store))
