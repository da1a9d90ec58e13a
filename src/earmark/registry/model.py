"""The packaged model as an MLflow pyfunc: models-from-code, so that nothing is pickled."""

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlflow.models import ModelSignature, set_model
from mlflow.pyfunc.model import PythonModel, PythonModelContext
from mlflow.types import ColSpec, DataType, Schema

if TYPE_CHECKING:
    import pandas as pd

INPUTS = Schema([ColSpec(DataType.binary, "audio", required=False), ColSpec(DataType.string, "path", required=False)])
FIGURES = ("probability_of_spoof", "llr", "cm_score")  # the other columns are strings
ANSWERS = ("decision", "source", "verdict", "error")
OUTPUTS = Schema([*(ColSpec(DataType.string, name) for name in ANSWERS), *(ColSpec(DataType.double, name) for name in FIGURES)])
SIGNATURE = ModelSignature(inputs=INPUTS, outputs=OUTPUTS)


class EarmarkModel(PythonModel):
    """Loads the bundle; answers recordings."""

    def load_context(self, context: PythonModelContext) -> None:
        """Load and check the bundle that was logged with the model."""
        from earmark.params import ComputeParams
        from earmark.verdict.judge import load_judge

        place = context.artifacts["bundle"]
        self.judge = load_judge(Path(place), place, None, ComputeParams(), None)

    def predict(self, context: PythonModelContext, model_input: "pd.DataFrame", params: dict[str, Any] | None = None) -> "pd.DataFrame":
        """A row of answers for each row, whose column `audio` holds a file's bytes or `path` its place.

        `verdict` is the whole verdict as JSON, a line a channel where channels differ; the columns are then those of the gravest.
        A recording that cannot be judged has an `error` and nothing else; the others have none.
        """
        import pandas as pd

        rows = [self._answer(row.get("audio"), row.get("path")) for row in model_input.to_dict("records")]
        return pd.DataFrame(rows, columns=OUTPUTS.input_names())

    def _answer(self, content: Any, path: Any) -> dict[str, Any]:
        from earmark import InputError
        from earmark.verdict.judge import gravest

        with tempfile.NamedTemporaryFile() as file:
            file.write(content if isinstance(content, bytes) else b"")
            file.flush()
            given = isinstance(path, str) and not isinstance(content, bytes)
            try:
                verdicts = self.judge.judge(Path(path if given else file.name), path if given else "audio")
            except InputError as error:
                return {"error": str(error)}
        verdict = gravest(verdicts)
        answer = {name: getattr(verdict, name) for name in ("decision", *FIGURES)}
        source = verdict.source.answer if verdict.source else None
        return answer | {"source": source, "verdict": "\n".join(one.model_dump_json() for one in verdicts)}


set_model(EarmarkModel())
