"""What the feature views promise: each field's meaning, window, owner and consent scope. The SQL stands in dbt/models/features."""

from ml.features.declarations import VIEWS
from ml.features.field import DTYPES, FeatureView, Field, model_fields

__all__ = ["DTYPES", "VIEWS", "FeatureView", "Field", "model_fields"]
