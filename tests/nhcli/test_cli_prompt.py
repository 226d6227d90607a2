"""The prompt of ``nhdata sql``: what Tab offers, what Enter does, and that an error does not end it."""

import pytest
from prompt_toolkit.application import create_app_session
from prompt_toolkit.completion import CompleteEvent
from prompt_toolkit.document import Document
from prompt_toolkit.history import FileHistory
from prompt_toolkit.input import create_pipe_input
from prompt_toolkit.output import DummyOutput

import nhdata
from nhcli.data import sql_prompt
from nhcli.data.sql_prompt import NameCompleter, make_session, run_prompt


def offered(text: str) -> list[str]:
    return [found.text for found in NameCompleter().get_completions(Document(text), CompleteEvent())]


def test_completion() -> None:
    assert offered("select * from un") == ["units", "unit_features"]
    assert offered("from good") == ["good_units()"]
    assert offered("select beryl(regi") == ["region"]
    assert "isi_cv" in offered("select isi")
    assert offered("select rate_hz from sessions where n_t") == ["n_trials"]
    assert offered("select cos") == ["cosmos", "cosmos("]
    assert offered("select region from units gr") == ["group by"]
    assert offered("select zzz") == []


def test_a_dialogue(small_store, tmp_path, monkeypatch: pytest.MonkeyPatch, capsysbinary) -> None:
    monkeypatch.setattr(sql_prompt.click, "get_app_dir", lambda name: str(tmp_path / "app"))
    with create_pipe_input() as keys:
        keys.send_text("tables\r")
        keys.send_text("select count(*) as n_found\rfrom units;\r")
        keys.send_text("select regoin from units;\r")
        keys.send_text("select 7 as still_here;\r")
        keys.send_text("quit\r")
        with create_app_session(input=keys, output=DummyOutput()):
            run_prompt(nhdata.open(small_store).snapshot)
    said = capsysbinary.readouterr()
    assert b"provenance" in said.out
    assert b"n_found" in said.out
    assert b"24" in said.out
    assert b"still_here" in said.out
    assert b"error: " in said.err
    assert b"region" in said.err
    history = list(FileHistory(tmp_path / "app" / "sql_history").load_history_strings())
    assert history[0] == "quit"
    assert "select count(*) as n_found\nfrom units;" in history


def test_a_history_that_cannot_be_kept_is_no_error(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(sql_prompt.click, "get_app_dir", lambda name: str(tmp_path / "file" / "app"))
    with create_pipe_input() as keys, create_app_session(input=keys, output=DummyOutput()):
        assert make_session().history.get_strings() == []
