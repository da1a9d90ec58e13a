"""Stage fit_ensemble: what train and dev say of the members, in small files, and the fused scores and answers.

Shapes: N utterances, S known sources, E embedding.
"""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from earmark import InputError
from earmark.corpora.sources import Labels, numbers
from earmark.ensemble.detection import DETECTORS, SCORES, Fusion
from earmark.ensemble.detection import FILE as DETECTION
from earmark.ensemble.fusion import FILE, FUSION, ORIENTATION, Answer, Ensemble, save
from earmark.ensemble.unseen import unit
from earmark.metrics.odds import logsumexp
from earmark.params import DetectorParams, EnsembleParams, TracerParams
from earmark.scoring.outputs import Matrix, Output, read_outputs
from earmark.scoring.windows import ORIENTATION as CM_ORIENTATION
from earmark.scoring.windows import Scored, read_scores
from earmark.storage.files import read_table, write_table

System = tuple[str, Labels, Matrix]  # its name, the numbers of the sources it names, its ood_score


def fit_ensemble(
    detector: DetectorParams, tracer: TracerParams, ensemble: EnsembleParams, *,
    protocol: Path, scores: Path, embeddings: Path, output: Path,
) -> dict[str, float]:  # fmt: skip
    """Fit detection and, where the tracer has members, tracing; write what was fitted and what it says: see `fuse` and `trace`."""
    table = read_table(protocol).set_index("utterance_id")
    figures = fuse(detector, table, read_scores(scores), output)
    return figures | (trace(tracer, ensemble, table, embeddings, output) if tracer.members else {})


def fuse(detector: DetectorParams, table: pd.DataFrame, scored: Scored, output: Path) -> dict[str, float]:
    """Fit the fusion of the detector's members on dev; write it, scores.parquet and detectors.parquet.

    scores.parquet has utterance_id, cm_score, lowest (the lowest score of a window), windows, embedding; detectors.parquet the scores of
    each member alone and, of more than two, of all but each.
    Errors: InputError when the members scored are not those of params.
    """
    if set(scored.scores) != set(detector.members):
        raise InputError(f"scores are of {', '.join(scored.scores)}, params have {', '.join(detector.members)}: run score_detector")
    rows = table.loc[scored.utterances]
    dev, bonafide = ((rows[column] == value).to_numpy(bool) for column, value in (("split", "dev"), ("key", "bonafide")))
    counts = np.bincount(scored.owners)
    means = {name: np.bincount(scored.owners, values) / counts for name, values in scored.scores.items()}

    def fit(members: Iterable[str]) -> Fusion:
        scores, embeddings = ({name: found[name][dev] for name in members} for found in (means, scored.embeddings))
        return Fusion.fit(scores, embeddings, bonafide[dev])

    fitted = fit(means)
    fitted.save(output / DETECTION)
    each = pd.Series(fitted.fuse(scored.scores)).groupby(scored.owners)
    whole = {"utterance_id": scored.utterances, "cm_score": fitted.fuse(means), "lowest": each.min().to_numpy(), "windows": counts}
    whole["embedding"] = list(fitted.join(scored.embeddings).astype(np.float32))
    write_table(output / SCORES, pd.DataFrame(whole), orientation=CM_ORIENTATION)
    systems = dict(means) | {f"without {name}": fit([one for one in means if one != name]).fuse(means) for name in means if len(means) > 2}
    parts = [pd.DataFrame({"system": name, "utterance_id": scored.utterances, "cm_score": values}) for name, values in systems.items()]
    write_table(output / DETECTORS, pd.concat(parts, ignore_index=True), orientation=CM_ORIENTATION)
    return {f"weight/detector/{name}": value for name, value in fitted.weights.items()}


def trace(tracer: TracerParams, ensemble: EnsembleParams, protocol: pd.DataFrame, embeddings: Path, output: Path) -> dict[str, float]:
    """Fit tracing on train and dev; write ensemble.safetensors, and the answers for dev and eval: answers.parquet, systems.parquet.

    systems.parquet has the rows of the ablation: every member alone, scores fused, embeddings fused, both.
    Errors: InputError when members differ in sources or are not those of params.
    """
    ids, outputs, sources = read_outputs(embeddings)
    if set(outputs) != set(tracer.members):
        raise InputError(f"{embeddings} has members {', '.join(outputs)}, params have {', '.join(tracer.members)}: run embed_utterances")
    table = protocol.loc[ids]
    labels, split = numbers(table["source"], sources), table["split"].to_numpy()
    parts = {name: _rows(outputs, np.flatnonzero(split == name)) for name in ("train", "dev")}

    def fit(members: tuple[str, ...]) -> Ensemble:
        chosen = ({name: part[name] for name in members} for part in parts.values())
        (train, dev), (train_labels, dev_labels) = chosen, (labels[split == name] for name in parts)
        return Ensemble.fit(sources, train, train_labels, dev, dev_labels, ensemble.coverage, ensemble.fallback)

    fitted = fit(tuple(outputs))
    save(output / FILE, fitted)
    asked = np.flatnonzero(split != "train")
    names, heard = [ids[row] for row in asked], _rows(outputs, asked)
    answer = fitted.answer(heard)
    write_table(output / "answers.parquet", tabulate(names, answer, fitted), orientation=ORIENTATION)
    rows = [(FUSION, answer.logits.argmax(1), answer.ood_score), *_ablations(fitted, answer)]
    if len(outputs) > 1:
        for name in outputs:
            alone = fit((name,)).answer(heard)
            rows.append((name, alone.logits.argmax(1), alone.ood_score))
    systems = [pd.DataFrame({"system": s, "utterance_id": names, "source": np.array(sources)[n], "ood_score": ood}) for s, n, ood in rows]
    write_table(output / "systems.parquet", pd.concat(systems, ignore_index=True), orientation=ORIENTATION)
    return {f"weight/{name}": value for name, value in fitted.weights.items()} | {"threshold": fitted.threshold}


def _ablations(ensemble: Ensemble, answer: Answer) -> Iterator[System]:
    """Fused scores alone: energy; fused embeddings alone: the nearest class mean, and minus the cosine to it."""
    yield "score fusion", answer.logits.argmax(1), -logsumexp(answer.logits, axis=1)
    cosines = answer.embeddings @ unit(ensemble.bank.means).T
    yield "embedding fusion", cosines.argmax(1), -cosines.max(1)


def tabulate(ids: list[str], answer: Answer, ensemble: Ensemble) -> pd.DataFrame:
    """A row an utterance: utterance_id, source (of the known ones), ood_score, unseen, posterior, set, embedding."""
    names = np.array(ensemble.sources)
    return pd.DataFrame(
        {
            "utterance_id": ids,
            "source": names[answer.logits.argmax(1)],
            "ood_score": answer.ood_score,
            "unseen": answer.ood_score > ensemble.threshold,
            "posterior": list(answer.posterior),
            "set": [names[row].tolist() for row in answer.sets],
            "embedding": list(answer.embeddings.astype(np.float32)),
        }
    )


def _rows(outputs: Mapping[str, Output], rows: Labels) -> dict[str, Output]:
    return {name: found.take(rows) for name, found in outputs.items()}
