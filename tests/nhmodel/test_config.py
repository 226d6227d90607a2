"""Presets and settings: what can be set, and errors that name what cannot."""

import tomllib
from importlib.resources import files
from pathlib import Path

import pytest

from nhcatalog.errors import UserError
from nhmodel.config import Config, load_config, preset_names
from nhmodel.model import NeuroHorizon


def test_presets_are_the_toml_files_of_the_package() -> None:
    assert preset_names() == ["base", "small", "tiny"]


@pytest.mark.parametrize(("preset", "least", "most"), [("tiny", 1e5, 5e5), ("small", 8e6, 8.5e6), ("base", 32e6, 34e6)])
def test_a_preset_loads_and_is_as_large_as_it_says(preset: str, least: float, most: float) -> None:
    config = load_config(preset)
    assert least < NeuroHorizon(config.model, config.data, 100).n_parameters < most
    values = tomllib.loads(files("nhmodel.presets").joinpath(f"{preset}.toml").read_text())
    for section, settings in values.items():
        for name, value in settings.items():
            assert getattr(getattr(config, section), name) == value


@pytest.mark.parametrize(
    ("setting", "section", "name", "value"),
    [
        ("train.max_steps=10", "train", "max_steps", 10),
        ("train.max_minutes=4", "train", "max_minutes", 4.0),
        ("train.lr=3e-4", "train", "lr", 3e-4),
        ("model.identity=table", "model", "identity", "table"),
        ('model.identity="features"', "model", "identity", "features"),
        ("data.ema_tau_s=[0.1, 1]", "data", "ema_tau_s", (0.1, 1.0)),
        ("data.select=select 'x' = 'x'", "data", "select", "select 'x' = 'x'"),
        (" train.seed = 3 ", "train", "seed", 3),
    ],
)
def test_a_setting_changes_one_value(setting: str, section: str, name: str, value: object) -> None:
    config = load_config("tiny", [setting])
    found = getattr(getattr(config, section), name)
    assert found == value
    assert type(found) is type(value)
    changed = getattr(config, section).model_copy(update={name: getattr(getattr(load_config(), section), name)})
    assert config.model_copy(update={section: changed}) == load_config()


def test_of_two_settings_of_one_key_the_last_counts() -> None:
    assert load_config("tiny", ["train.seed=1", "train.seed=2"]).train.seed == 2


def test_settings_come_after_a_file(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text("[model]\ndim = 32\n[train]\nlr = 0.1\n")
    config = load_config(str(path), ["model.dim=16"])
    assert (config.model.dim, config.train.lr, config.train.batch_size) == (16, 0.1, Config().train.batch_size)


@pytest.mark.parametrize(
    ("setting", "named"),
    [
        ("train.max_stepz=3", r"train\.max_stepz"),
        ("training.lr=3", "training"),
        ("train.lr=fast", r"train\.lr"),
        ("train.lr=0", r"train\.lr"),
        ("train.lr=inf", r"train\.lr"),
        ("train.batch_size=1.5", r"train\.batch_size"),
        ("model.dim=true", r"model\.dim"),
        ("model.dim=20", r"model\.n_heads.*dim=20 is not a multiple of 4 \* n_heads=8"),
        ("model.n_heads=3", r"model\.n_heads.*dim=64"),
        ("model.identity=both of them", r"model\.identity"),
        ("data.ema_tau_s=[0.1, -1]", r"data\.ema_tau_s"),
        ("data.ema_tau_s=[]", r"data\.ema_tau_s"),
        ("train.seed", r"'train\.seed' is not section\.key=value"),
        ("seed=3", "'seed=3' is not section.key=value"),
        ("=3", "'=3' is not section.key=value"),
        ("train.=3", "'train.=3' is not section.key=value"),
    ],
)
def test_a_wrong_setting_is_named_on_one_line(setting: str, named: str) -> None:
    with pytest.raises(UserError, match=named) as error:
        load_config("tiny", [setting])
    assert "\n" not in str(error.value)


def test_an_unknown_setting_is_answered_with_those_that_exist() -> None:
    with pytest.raises(UserError, match=r"train\.max_steps=20000") as error:
        load_config("tiny", ["train.max_stepz=3"])
    assert "train.warmup=0.1" in error.value.remedy


def test_an_unknown_preset_is_answered_with_those_that_exist() -> None:
    with pytest.raises(UserError, match="unknown preset 'huge': choose one of base, small, tiny"):
        load_config("huge")


@pytest.mark.parametrize(
    ("text", "named"), [(None, "no file"), ("[model", "mine.toml: "), ("train = 3", "setting train: ")]
)
def test_a_file_that_is_no_file_of_settings_is_named(text: str | None, named: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(UserError, match=named):
        load_config(str(path), ["train.lr=0.1"])


def test_settings_survive_json() -> None:
    config = load_config("small", ["train.max_minutes=4", "data.ema_tau_s=[0.1, 0.3]"])
    assert Config.model_validate_json(config.model_dump_json()) == config
