"""earmark: tells whether a recording of speech is bona fide or spoofed, and which system made the spoof.

In Python: `earmark.load_model("models:/earmark@champion").check("a.wav").decision`.
"""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from earmark.verdict.judge import Judge


class InputError(ValueError):
    """What the user can mend: names the culprit and what to do. The command line prints it as one line, without traceback."""


def load_model(
    model: str | Path = "artifacts/model", *, device: str = "auto", prior: float | None = None, enrolled: str | Path | None = None
) -> "Judge":
    """The model at `model`, ready to judge recordings: `load_model(…).check("a.wav")` is a verdict.

    `model` is a folder, models:/NAME@ALIAS, models:/NAME/VERSION or runs:/ID/earmark; MLflow is where MLFLOW_TRACKING_URI says, else
    in mlflow.db here. `device` is auto, cpu or cuda, `prior` the probability of spoof before listening (None: the model's), `enrolled` a
    file of sources that `earmark enrol` wrote for this model.
    Errors: InputError when there is no such model, or it is damaged or of another version.
    """
    from earmark.params import TrackingParams, parse
    from earmark.registry.fetch import folder_of
    from earmark.verdict.judge import load_judge

    compute = parse({"compute": {"device": device}}, "device").compute
    folder = folder_of(str(model), TrackingParams())
    return load_judge(folder, str(model), Path(enrolled) if enrolled else None, compute, prior)
