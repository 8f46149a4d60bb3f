"""The model as it is kept and used: trees, the calibrator, and how columns become a matrix."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from uuid import uuid4

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import xgboost as xgb

from ml.datasets import Encoder, Matrix
from ml.features import Field
from ml.models.propensity.calibration import CalibrationBand, Calibrator, Spread, VennAbers

Floats = npt.NDArray[np.float64]
_BOOSTER, _REST = "booster.ubj", "model.json"
_SPREAD = ("levels", "below", "above", "places", "floor")


@dataclass(frozen=True)
class Scores:
    """score: calibrated probability; low, high: its 90 % interval. One entry a row."""

    score: Floats
    low: Floats
    high: Floats


@dataclass(frozen=True)
class PropensityModel:
    """booster: XGBoost trees that give the margin (log-odds). calibrator: margin to score. encoder: table to matrix.

    learnt_until: end of the last label that it was trained or calibrated on, UTC; what is labelled from there on it cannot know. None where it was not noted.
    """

    booster: xgb.Booster
    calibrator: Calibrator
    encoder: Encoder
    learnt_until: datetime | None = None

    @property
    def fields(self) -> tuple[str, ...]:
        return tuple(field.name for field in self.encoder.fields)

    @property
    def categories(self) -> Mapping[str, tuple[str, ...]]:
        return self.encoder.categories

    def margins(self, matrix: Matrix) -> Floats:
        """Log-odds before calibration."""
        return np.asarray(self.booster.inplace_predict(matrix, predict_type="margin"), dtype=np.float64)

    def predict(self, table: pa.Table | pa.RecordBatch) -> Scores:
        """Scores of rows with the model's fields as columns, in their order. Raises KeyError for a missing column."""
        return Scores(*self.calibrator.predict(self.margins(self.encoder.encode(table, by_row=False))))

    def contributions(self, matrix: Matrix) -> Floats:
        """(rows, fields + 1): exact SHAP values of each field in log-odds (Lundberg et al. 2020, path-dependent), and the bias.

        A row sums to the margin of its leaves within 1e-6; `margins` adds the trees in single precision, and can be some 1e-6 off that.
        """
        by_column = np.asarray(self.booster.predict(xgb.DMatrix(matrix), pred_contribs=True), dtype=np.float64)
        places = {name: place for place, name in enumerate(self.fields)}
        summed = np.zeros((len(matrix), len(places) + 1))
        for column, (name, _) in enumerate(self.encoder.columns):
            summed[:, places[name]] += by_column[:, column]
        summed[:, -1] = by_column[:, -1]
        return summed

    @property
    def digest(self) -> str:
        """32 hex digits of everything that a score depends on."""
        return hashlib.sha256(bytes(self.booster.save_raw("ubj")) + self._rest().encode()).hexdigest()[:32]

    def save(self, folder: Path) -> None:
        """Writes the model as a folder that appears whole or not at all."""
        temporary = folder.with_name(f".{folder.name}.{uuid4().hex[:8]}")
        temporary.mkdir(parents=True)
        try:
            (temporary / _BOOSTER).write_bytes(bytes(self.booster.save_raw("ubj")))
            learnt = {"learnt_until": self.learnt_until.isoformat()} if self.learnt_until else {}
            (temporary / _REST).write_text(json.dumps(json.loads(self._rest()) | learnt, sort_keys=True))
            if folder.exists():
                shutil.rmtree(folder)
            os.replace(temporary, folder)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)

    @classmethod
    def load(cls, folder: Path) -> PropensityModel:
        """What `save` wrote. Raises OSError or ValueError where it is not whole."""
        rest = json.loads((folder / _REST).read_text())
        booster = xgb.Booster({"nthread": 2})
        booster.load_model(bytearray((folder / _BOOSTER).read_bytes()))
        fields = tuple(Field(**{**field, "measures": tuple(field["measures"])}) for field in rest["fields"])
        arrays = {name: np.asarray(values, dtype=np.float64) for name, values in rest["calibrator"].items()}
        calibrator = Calibrator(
            VennAbers(arrays["points"], arrays["p0"], arrays["p1"]), CalibrationBand(arrays["knots"], arrays["coefficients"], arrays["covariance"]),
            Spread(*(arrays.get(name, np.zeros(0)) for name in _SPREAD)),  # models of earlier versions have none
        )  # fmt: skip
        learnt_until = datetime.fromisoformat(rest["learnt_until"]) if "learnt_until" in rest else None
        return cls(booster, calibrator, Encoder(fields, {name: tuple(values) for name, values in rest["categories"].items()}), learnt_until)

    def _rest(self) -> str:
        parts = {
            "points": self.calibrator.venn_abers.points, "p0": self.calibrator.venn_abers.p0, "p1": self.calibrator.venn_abers.p1,
            "knots": self.calibrator.band.knots, "coefficients": self.calibrator.band.coefficients, "covariance": self.calibrator.band.covariance,
            **{name: getattr(self.calibrator.spread, name) for name in _SPREAD},
        }  # fmt: skip
        fields = [
            {"name": f.name, "dtype": f.dtype, "window_days": f.window_days, "meaning": f.meaning, "measures": list(f.measures), "table": f.table}
            for f in self.encoder.fields
        ]
        return json.dumps(
            {
                "fields": fields,
                "categories": {name: list(values) for name, values in self.categories.items()},
                "calibrator": {name: np.asarray(values).tolist() for name, values in parts.items()},
            },
            sort_keys=True,
        )
