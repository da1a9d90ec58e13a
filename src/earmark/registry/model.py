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

        rows = [self._answer(row) for row in model_input.to_dict("records")]
        return pd.DataFrame(rows, columns=OUTPUTS.input_names())

    def _answer(self, row: dict[str, Any]) -> dict[str, Any]:
        from earmark import InputError

        content, path = row.get("audio"), row.get("path")
        try:
            if isinstance(content, bytes):
                with tempfile.NamedTemporaryFile() as file:
                    file.write(content)
                    file.flush()
                    return self._judge(Path(file.name), "audio")
            if isinstance(path, str):
                return self._judge(Path(path), path)
            raise InputError("neither `audio` holds bytes nor `path` a place")
        except InputError as error:
            return {"error": str(error)}

    def _judge(self, path: Path, name: str) -> dict[str, Any]:
        from earmark.verdict.judge import gravest

        verdicts = self.judge.judge(path, name)
        verdict = gravest(verdicts)
        source = verdict.source.answer if verdict.source else None
        figures = {name: getattr(verdict, name) for name in FIGURES}
        return {"decision": verdict.decision, "source": source, "verdict": "\n".join(one.model_dump_json() for one in verdicts), **figures}


set_model(EarmarkModel())
