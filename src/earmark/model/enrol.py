"""`earmark enrol`: a folder of clips becomes a source that the ensemble knows, with what that costs and brings measured first."""

import tempfile
from pathlib import Path

import numpy as np
import pandas as pd

from earmark import InputError
from earmark.corpora.checks import refuse_unreadable
from earmark.corpora.folder import read_recordings
from earmark.corpora.prepare import probe_files
from earmark.corpora.sources import UNSEEN, Labels, numbers
from earmark.ensemble.enrolment import Enrolled, leave_one_out
from earmark.ensemble.fusion import FEW, FILE, Ensemble, fuse_embeddings, load
from earmark.features.shards import Features, precompute, select
from earmark.params import Params
from earmark.scoring import front_end
from earmark.scoring.embedding import load_members, outputs_of, set_up
from earmark.scoring.outputs import Matrix
from earmark.storage.files import read_table


def enrol(
    params: Params, name: str, folder: Path, before: Enrolled, protocol: Path, members: Path, ensemble: Path
) -> tuple[Enrolled, pd.DataFrame]:
    """Source `name` added from the clips below `folder`, and the table of what that changes, on clips and on dev. Nothing is saved.

    Errors: InputError when clips are too few, unreadable or silent, or the source exists.
    """
    fitted = load(ensemble / FILE)
    before.refuse_taken(name, fitted)
    embeddings, clips = embed_clips(params, fitted, folder, members)
    after = before.add(name, embeddings, clips, fitted)
    dev = read_dev(fitted, protocol, ensemble)
    rows = [
        (f"{name}: clips, each left out in turn", np.nan, leave_one_out(before, name, embeddings, clips, fitted)),
        ("known sources: dev", share_right(before, *dev, fitted), share_right(after, *dev, fitted)),
    ]
    return after, pd.DataFrame(rows, columns=["accuracy on", "before", "after"])


def share_right(enrolled: Enrolled, embeddings: Matrix, named: Labels, labels: Labels, ensemble: Ensemble) -> float:
    """Share of utterances that the ensemble names rightly and no enrolled source claims."""
    return float(np.mean((named == labels) & (enrolled.claim(embeddings, ensemble) < 0)))


def read_dev(ensemble: Ensemble, protocol: Path, folder: Path) -> tuple[Matrix, Labels, Labels]:
    """Fused embeddings of dev's known-source utterances, the sources named, and the true ones."""
    answers, table = read_table(folder / "answers.parquet").set_index("utterance_id"), read_table(protocol)
    rows = table[(table["split"] == "dev") & table["utterance_id"].isin(answers.index)]
    labels = numbers(rows["source"], ensemble.sources)
    found = answers.loc[rows["utterance_id"][labels != UNSEEN]]
    vectors = np.stack(found["embedding"].to_list()).astype(np.float64)
    return vectors, numbers(found["source"], ensemble.sources), labels[labels != UNSEEN]


def embed_clips(params: Params, ensemble: Ensemble, folder: Path, members: Path) -> tuple[Matrix, dict[str, str]]:
    """(C, E) fused embeddings of all recordings below a folder, and their digests by name.

    Errors: InputError when there is no such folder, when they are too few, or naming unreadable ones.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder")
    listed, most = read_recordings(folder), params.trials.max_unreadable
    if len(listed) < FEW:
        raise InputError(f"{folder} has {len(listed)} clips: a source is enrolled from at least {FEW}")
    table = probe_files(listed, most, params.decoding)
    with tempfile.TemporaryDirectory() as scratch:
        features, hidden = Path(scratch, "features"), Path(scratch, "front_end")
        index = precompute(table, params.decoding, params.audio, params.cqt, params.sharding, features)
        faults = index[index["error"].notna()].merge(table[["utterance_id", "corpus"]], on="utterance_id")
        refuse_unreadable(faults, table["corpus"].value_counts(), most)
        table = select(Features(features), table)
        front_end.precompute(params.front_end, params.compute, Features(features), hidden)
        setup = set_up(params.audio, params.cqt, params.front_end, params.tracer, params.compute, features, hidden)
        loaded, _ = load_members(setup.tracer.members, setup.sections, members)
        names = table["utterance_id"].tolist()
        outputs = {name: outputs_of(member, setup, names) for name, member in loaded.items()}
    return fuse_embeddings(outputs, ensemble.shares), dict(zip(names, table["digest"], strict=True))
