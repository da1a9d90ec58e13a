"""From the corpora of a run to one table of trials."""

import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pandas as pd
from rich.progress import track

from earmark import InputError
from earmark.audio.decode import probe
from earmark.corpora import asvspoof, folder, in_the_wild, mlaad
from earmark.corpora.checks import check_needs, find_surplus, locate, refuse_unfollowed, refuse_unreadable, validate
from earmark.corpora.protocol import CORE, KEYS, SPLITS
from earmark.corpora.splits import assign_splits
from earmark.params import CorpusParams, DecodingParams, TrialsParams
from earmark.storage.files import write_table

LOG = logging.getLogger(__name__)
ADAPTERS: dict[str, Callable[[Path], pd.DataFrame]] = {
    "folder": folder.read,
    "asvspoof2019_la": asvspoof.read_2019_la,
    "asvspoof2021_la": asvspoof.read_2021_la,
    "asvspoof2021_df": asvspoof.read_2021_df,
    "in_the_wild": in_the_wild.read,
    "mlaad": mlaad.read,
    "mlaad_source_tracing": mlaad.read_source_tracing,
}


def prepare_protocol(
    corpora: tuple[CorpusParams, ...], trials: TrialsParams, decoding: DecodingParams, *, copies: Path, output: Path
) -> dict[str, float]:
    """Write the table of trials; return how many each split has of each key. Errors: as `prepare_with_copies`."""
    table = prepare_with_copies(corpora, copies, trials, decoding)
    write_table(output, table)
    counts = table.groupby(["split", "key"]).size()
    return {f"{split}/{key}": int(count) for (split, key), count in counts.items()}  # pyright: ignore[reportGeneralTypeIssues]


def prepare_with_copies(corpora: Sequence[CorpusParams], copies: Path, trials: TrialsParams, decoding: DecodingParams) -> pd.DataFrame:
    """The whole protocol of a run: trials of the corpora and copies made of them, with each file's `seconds` and content `digest`.

    A copy counts to the corpus of its recording. Errors: InputError as `prepare`, or when too many files are no audio at all.
    """
    table = prepare(corpora, trials.seed, trials.dev_fraction, trials.eval_fraction, trials.max_unreadable)
    made = folder.read(copies)
    if len(made):
        made["corpus"] = made.pop("recording").map(table.set_index("utterance_id")["corpus"])
        table = validate(pd.concat([table, made], ignore_index=True), trials.max_unreadable)
    table = probe_files(fill_in_domain(table), trials.max_unreadable, decoding)
    check_needs(table)
    return table


def probe_files(table: pd.DataFrame, max_unreadable: float, decoding: DecodingParams) -> pd.DataFrame:
    """Add `seconds` and `digest`; drop, or refuse, files that no decoder opens, naming all."""
    with ThreadPoolExecutor() as pool:
        probed = list(track(pool.map(lambda path: _try_probe(path, decoding), table["path"]), "probe audio", total=len(table)))
    error = pd.Series([result if isinstance(result, str) else None for result in probed], index=table.index, dtype="object")
    faults = table.assign(error=error)[error.notna()]
    refuse_unreadable(faults, table["corpus"].value_counts(), max_unreadable)
    seconds, digest = zip(*([result for result in probed if not isinstance(result, str)] or [(0.0, "")]), strict=True)
    return table[error.isna()].assign(seconds=seconds, digest=digest).reset_index(drop=True)


def _try_probe(path: str, decoding: DecodingParams) -> tuple[float, str] | str:
    try:
        return probe(path, decoding)
    except InputError as error:
        return str(error)


def prepare(
    corpora: Sequence[CorpusParams], seed: int, dev_fraction: float, eval_fraction: float, max_unreadable: float = 0.01
) -> pd.DataFrame:
    """Read each corpus, keep the splits it serves, and merge all into one validated table, sorted by corpus order and id.

    `dev_fraction` and `eval_fraction` are shares of the trials of a corpus that brings no splits.
    Errors: InputError naming the culprits of all corpora (`checks.validate`), or a corpus that has nothing for its splits.
    """
    fractions = {"train": 1 - dev_fraction - eval_fraction, "dev": dev_fraction, "eval": eval_fraction}
    if not corpora:
        raise InputError("params list no corpora: add at least one {adapter, root, splits}")
    table = pd.concat([read_served(corpus, fractions, seed) for corpus in corpora], ignore_index=True)
    refuse_unfollowed(table)
    table = validate(table[[*CORE, *(name for name in table.columns if name not in CORE)]], max_unreadable)
    return fill_in_domain(table)


def read_served(corpus: CorpusParams, fractions: dict[str, float], seed: int) -> pd.DataFrame:
    """Trials of one corpus for the splits it serves, made where it brings none: `fractions` are the splits' shares.

    Wrong keys and splits are kept, for `checks` to name. Errors: InputError when nothing is left.
    """
    table = locate(ADAPTERS[corpus.adapter](Path(corpus.root)))
    table["corpus"] = corpus.title
    surplus = find_surplus(table)
    if surplus:
        LOG.info("%s: %d audio files are in no trial, such as %s", table["corpus"].iloc[0], len(surplus), surplus[0])
    table["split"] = _split(table, corpus.splits, fractions, seed)
    served = table["split"].isin(corpus.splits)
    if not served.any():
        raise InputError(f"{corpus.adapter} at {corpus.root} has no trials for {', '.join(corpus.splits)}: change its splits in params")
    wrong = ~table["split"].isin(SPLITS) | ~table["key"].isin(KEYS)  # kept so that validate names them with all other faults
    return table[served | wrong].sort_values("utterance_id", kind="stable")


def _split(table: pd.DataFrame, served: Sequence[str], fractions: dict[str, float], seed: int) -> pd.Series:
    unsplit = table["split"].isna()
    if not unsplit.any():
        return table["split"]
    if unsplit.all() and len(served) == 1:
        return table["split"].fillna(served[0])
    kept = {name: fractions[name] for name in SPLITS if name in served}
    total = sum(kept.values())
    if total <= 0:
        raise InputError(f"no share is left for {', '.join(served)}: lower dev_fraction or eval_fraction in params")
    LOG.info("%s: %d trials without split get one", table["corpus"].iloc[0], unsplit.sum())
    return assign_splits(table, {name: share / total for name, share in kept.items()}, seed)


def fill_in_domain(table: pd.DataFrame) -> pd.DataFrame:
    """Where a corpus does not say: a spoof is in-domain when its source has training spoofs; bona fide stays null."""
    known = set(table["source"][(table["split"] == "train") & (table["key"] == "spoof")].dropna())
    derived = table["source"].isin(known).astype("boolean").mask(table["key"] != "spoof")
    filled = table["in_domain"].mask(table["key"] != "spoof").fillna(derived)
    return table.assign(in_domain=filled)
