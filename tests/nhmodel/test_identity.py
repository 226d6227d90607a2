"""Embeddings of units: the encoder of features, the learned table, and both."""

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file

from nhmodel.layers.identity import LOG_COLUMNS, N_FEATURES, IDEncoder, UnitIdentity

N_UNITS = 20


@pytest.fixture
def features() -> NDArray[np.float64]:
    """(20, 34), with rates over decades."""
    rng = np.random.default_rng(0)
    values = rng.normal(2.0, 3.0, (N_UNITS, N_FEATURES))
    values[:, LOG_COLUMNS] = rng.lognormal(0.0, 1.5, (N_UNITS, len(LOG_COLUMNS)))
    return values


@pytest.fixture
def encoder(features: NDArray[np.float64]) -> IDEncoder:
    torch.manual_seed(0)
    encoder = IDEncoder(8).eval()
    encoder.fit_normaliser(features)
    return encoder


def test_normaliser_gives_the_training_units_mean_zero_and_deviation_one(
    encoder: IDEncoder, features: NDArray[np.float64]
) -> None:
    expected = features.copy()
    expected[:, LOG_COLUMNS] = np.log(expected[:, LOG_COLUMNS] + 0.01)
    np.testing.assert_allclose(encoder.mean, expected.mean(0), rtol=1e-5)
    np.testing.assert_allclose(encoder.std, expected.std(0), rtol=1e-5)


def test_normaliser_skips_what_is_not_a_number_and_survives_columns_that_say_nothing(
    features: NDArray[np.float64],
) -> None:
    features[3, 5] = np.nan
    features[:, 7] = np.nan
    features[:, 9] = 4.0
    encoder = IDEncoder(8).eval()
    encoder.fit_normaliser(features)
    assert float(encoder.mean[5]) == pytest.approx(np.nanmean(features[:, 5]), rel=1e-5)
    assert (float(encoder.mean[7]), float(encoder.std[7])) == (0.0, 1.0)
    assert (float(encoder.mean[9]), float(encoder.std[9])) == (4.0, 1.0)
    assert encoder.compute_embeddings(torch.from_numpy(features)).isfinite().all()


def test_one_training_unit_is_enough_for_the_normaliser(features: NDArray[np.float64]) -> None:
    encoder = IDEncoder(8).eval()
    encoder.fit_normaliser(features[:1])
    assert torch.equal(encoder.std, torch.ones(N_FEATURES))
    assert encoder.compute_embeddings(torch.from_numpy(features)).isfinite().all()


@pytest.mark.parametrize("column", [0, 1, 15, 32])
def test_a_missing_feature_counts_as_the_training_mean(
    encoder: IDEncoder, features: NDArray[np.float64], column: int
) -> None:
    missing, average = features.copy(), features.copy()
    missing[:, column] = np.nan
    mean = float(encoder.mean[column])
    average[:, column] = np.exp(mean) - 0.01 if column in LOG_COLUMNS else mean
    found, expected, with_it = (encoder.compute_embeddings(torch.from_numpy(x)) for x in (missing, average, features))
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    assert not torch.allclose(found, with_it, atol=1e-3)


def test_a_silent_unit_and_an_absurd_one_have_finite_embeddings(encoder: IDEncoder) -> None:
    silent = torch.full((1, N_FEATURES), torch.nan, dtype=torch.float64)
    silent[0, 0] = 0.0
    absurd = torch.full((1, N_FEATURES), 1e300, dtype=torch.float64)
    assert encoder.compute_embeddings(torch.cat([silent, absurd])).isfinite().all()


def test_indexed_forward_is_a_look_up_in_the_embeddings(encoder: IDEncoder, features: NDArray[np.float64]) -> None:
    x, index = torch.from_numpy(features), torch.tensor([[3, 3, 0], [19, 7, 1]])
    found = encoder(x, index)
    assert found.shape == (2, 3, 8)
    assert torch.equal(found, encoder.compute_embeddings(x)[index])


def test_embeddings_do_not_touch_the_features(encoder: IDEncoder, features: NDArray[np.float64]) -> None:
    x = torch.from_numpy(features)
    before = x.clone()
    encoder.compute_embeddings(x)
    assert torch.equal(x, before)


def test_the_normaliser_travels_with_the_weights(
    encoder: IDEncoder, features: NDArray[np.float64], tmp_path: Path
) -> None:
    save_file(encoder.state_dict(), tmp_path / "weights.safetensors")
    other = IDEncoder(8).eval()
    other.load_state_dict(load_file(tmp_path / "weights.safetensors"))
    x = torch.from_numpy(features)
    assert torch.equal(other.compute_embeddings(x), encoder.compute_embeddings(x))


def identity(kind: str, features: NDArray[np.float64], table_dropout: float = 0.0) -> UnitIdentity:
    torch.manual_seed(0)
    made = UnitIdentity(kind, N_UNITS, 8, 0.0, table_dropout)
    if made.encoder is not None:
        made.encoder.fit_normaliser(features)
    return made.eval()


def test_a_unit_that_was_not_trained_has_the_encoders_part_alone(features: NDArray[np.float64]) -> None:
    both, x = identity("both", features), torch.from_numpy(features)
    assert both.encoder is not None
    assert both.table is not None
    encoded, row = both.encoder.compute_embeddings(x), torch.arange(N_UNITS).roll(1)
    row[4] = -1
    found = both(x, row)
    assert torch.equal(found[4], encoded[4])
    torch.testing.assert_close(found[:4], encoded[:4] + both.table[row[:4]])


def test_a_table_knows_nothing_of_features_and_features_nothing_of_rows(features: NDArray[np.float64]) -> None:
    x, row = torch.from_numpy(features), torch.arange(N_UNITS)
    table, encoded = identity("table", features), identity("features", features)
    assert torch.equal(table(x, row), table(torch.zeros_like(x), row))
    assert torch.equal(encoded(x, row), encoded(x, torch.full_like(row, -1)))


@pytest.mark.parametrize(("kind", "table_dropout", "left_out"), [("both", 1.0, True), ("table", 1.0, False)])
def test_the_table_is_left_out_in_training_only_where_the_encoder_stands_in(
    features: NDArray[np.float64], kind: str, table_dropout: float, left_out: bool
) -> None:
    made, x, row = identity(kind, features, table_dropout), torch.from_numpy(features), torch.arange(N_UNITS)
    without = made(x, torch.full_like(row, -1))
    assert not torch.allclose(made(x, row), without)
    assert torch.equal(made.train()(x, row), without) is left_out


def test_table_dropout_leaves_out_about_the_share_it_says(features: NDArray[np.float64]) -> None:
    made, x = identity("both", features, 0.25).train(), torch.from_numpy(features)
    row = torch.arange(N_UNITS)
    without = made(x, torch.full_like(row, -1))
    left_out = torch.cat([(made(x, row) == without).all(1) for _ in range(100)])
    assert float(left_out.double().mean()) == pytest.approx(0.25, abs=0.05)
