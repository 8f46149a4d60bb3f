"""How MLflow loads the model: named by the MLmodel file, used by nobody else."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from ml.models.propensity.model import PropensityModel

if TYPE_CHECKING:
    import pandas as pd


class Served:
    """predict: a frame with the model's fields as columns to a frame of score, score_low, score_high."""

    def __init__(self, model: PropensityModel) -> None:
        self.model = model

    def predict(self, frame: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:
        import pandas as pd

        table = pa.table({name: pa.array(frame[name], from_pandas=True) for name in self.model.fields})
        scores = self.model.predict(table)
        return pd.DataFrame({"score": scores.score, "score_low": scores.low, "score_high": scores.high})


def _load_pyfunc(data_path: str) -> Served:
    return Served(PropensityModel.load(Path(data_path)))
