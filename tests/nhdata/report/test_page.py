"""A page is whole, small, and shows hostile text as text."""

import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest

import nhdata
from nhdata.report.draw_session import robust_z
from nhdata.report.page import to_html, write_page
from nhdata.report.pages import session_page, store_page


class Reader(HTMLParser):
    """Counts the scripts and keeps the text that a reader sees."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.scripts: list[str] = []
        self.outside: list[str] = []
        self.links: list[str] = []
        self._script = False
        self.feed(page)

    def handle_starttag(self, tag, attrs) -> None:
        self._script = tag == "script"
        if tag == "script":
            self.scripts.append("")
        self.links += [value for name, value in attrs if name in ("src", "href")]

    def handle_endtag(self, tag) -> None:
        self._script = False

    def handle_data(self, data) -> None:
        if self._script:
            self.scripts[-1] += data
        else:
            self.outside.append(data)


@pytest.mark.parametrize("session_id", ["sim", "evil", "silent"])
def test_a_session_page_is_one_document_without_links(report_store, session_id) -> None:
    page = to_html(session_page(report_store.session(session_id)))
    read = Reader(page)
    assert len(read.scripts) == 2  # Bokeh, and the figures
    assert read.links == []
    assert len(page) < 3_000_000
    assert page.count("<section>") >= 4


def test_hostile_names_stay_text(report_store, evil) -> None:
    for page in (to_html(session_page(report_store.session("evil"))), to_html(store_page(report_store))):
        assert evil not in page
        read = Reader(page)
        assert len(read.scripts) == 2
        assert evil in "".join(read.outside)
        assert "$$x" not in read.scripts[1]  # Bokeh would typeset it


def test_a_store_page_tells_dates(report_store) -> None:
    assert '<td class="l">2024-05-01</td>' in to_html(store_page(report_store))


def test_the_script_of_a_page_is_whole(report_store) -> None:
    """What escapes hostile names leaves the figures' own JSON as it was."""
    script = Reader(to_html(session_page(report_store.session("evil")))).scripts[1]
    (docs,) = re.findall(r"const docs_json = '(.*)';", script)
    assert "Figure" in json.dumps(json.loads(docs.replace("\\\\", "\\").replace("\\'", "'")))


def test_a_store_without_sessions_has_a_page(report_root) -> None:
    page = to_html(store_page(nhdata.open(report_root, at=0)))
    assert "nhdata ingest" in page


def test_robust_z() -> None:
    values = np.array([[1.0, 5.0, np.nan], [2.0, 5.0, np.nan], [3.0, 5.0, np.nan], [np.nan, 5.0, np.nan]])
    z = robust_z(values)
    np.testing.assert_allclose(z[:, 0], [-1, 0, 1, np.nan])
    assert (z[:, 1] == 0).all()
    assert np.isnan(z[:, 2]).all()


def test_a_page_that_cannot_be_written_is_one_line(tmp_path) -> None:
    from nhcatalog.errors import UserError

    with pytest.raises(UserError, match="cannot write"):
        write_page("x", tmp_path / "no" / "page.html")
