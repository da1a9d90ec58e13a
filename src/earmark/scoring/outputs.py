"""What members of the ensemble say of utterances, in memory and as stored tables. Shapes: N utterances, S known sources, E embedding."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from earmark.scoring.parts import collect

Matrix = NDArray[np.float64]
Rows = NDArray[np.int64] | NDArray[np.bool_]


@dataclass(frozen=True)
class Output:
    """What a member says of N utterances: logits (N, S) and embeddings (N, E)."""

    logits: Matrix
    embeddings: Matrix

    def take(self, rows: Rows) -> "Output":
        """Those rows."""
        return Output(self.logits[rows], self.embeddings[rows])


def tabulate_outputs(utterances: list[str], outputs: dict[str, Output]) -> pd.DataFrame:
    """Columns utterance_id, <member>/logits and <member>/embedding."""
    columns: dict[str, Any] = {"utterance_id": utterances}
    for name, found in outputs.items():
        columns[f"{name}/logits"] = list(found.logits)
        columns[f"{name}/embedding"] = list(found.embeddings)
    return pd.DataFrame(columns)


def read_outputs(folder: Path) -> tuple[list[str], dict[str, Output], tuple[str, ...]]:
    """Utterance ids, outputs by member and the known sources. Errors: InputError when parts are missing or of several runs."""
    table, marks = collect(folder, "embed_utterances")
    names = [column.removesuffix("/logits") for column in table if column.endswith("/logits")]
    outputs = {name: Output(*(np.stack(table[f"{name}/{what}"].to_list()) for what in ("logits", "embedding"))) for name in names}
    return table["utterance_id"].tolist(), outputs, tuple(json.loads(marks["sources"]))
