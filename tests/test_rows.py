"""benchmarks/rows.py measures logistic regression on any number of rows."""

import importlib

import numpy as np
import pytest
from conftest import ROOT, write_csv


@pytest.fixture
def rows(monkeypatch, tmp_path):
    """Let rows.py find the features of six photos. Return the module."""
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    rows = importlib.import_module("rows")
    monkeypatch.setattr(rows, "ROOT", tmp_path)
    features = tmp_path / "output" / "sample" / "features" / "training.csv"
    write_csv(features, np.arange(6), np.eye(6, dtype=np.float32))
    return rows


@pytest.mark.filterwarnings("ignore:lbfgs failed to converge")
@pytest.mark.parametrize("way", ["in_memory", "in_blocks"])
def test_rows_are_repeated_fitted_and_deleted(rows, tmp_path, monkeypatch, capsys, way):
    monkeypatch.setattr("sys.argv", ["rows.py", "100", way, "--iterations", "2"])
    rows.main()
    assert f"100 rows {way}: 2 iterations, " in capsys.readouterr().out
    features = tmp_path / "output" / "sample" / "features"
    assert [path.name for path in features.iterdir()] == ["training.csv"]
