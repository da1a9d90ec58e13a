"""Real speech end to end: the pipeline's own stages through DVC, one scratch workspace a run, and one table of all runs.

The corpus is only linked, never copied. Runs share a DVC cache, so what they have in common is computed once.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pandas as pd
from rich.console import Console

import realset_tracing
import realset_verdicts
from earmark.evaluation.evaluate import Settings, evaluate_tables
from earmark.storage.files import read_table
from peers import cheap_cues, lfcc_gmm

ROOT = Path(__file__).resolve().parents[1]
SEEDS = (688, 689, 690)
CORPUS = "corpora=[{adapter: folder, root: data, name: realset}]"
# its speakers and texts recur across splits, and so do two recordings, of which another repository holds an encoded form
KNOWN_LEAKS = ("doctor.speaker_leak=warn", "doctor.group_leak=warn", "doctor.near_duplicate_leak=warn")
NO_COPIES = ("copysynthesis.known=[]",)
WAVESPEC = "detector.members.wavespec"
ALONE = ("detector.members.linear=null", "detector.members.lfcc_gmm=null")
DETECTOR = {
    "WaveSpec alone": ALONE,
    "WaveSpec, waveform only": (*ALONE, f"{WAVESPEC}.network.views=waveform"),
    "WaveSpec, CQT only": (*ALONE, f"{WAVESPEC}.network.views=spectrogram"),
    "WaveSpec with phase": (*ALONE, f"{WAVESPEC}.network.spectrogram.phase=angle"),
    "WaveSpec without copy-synthesis": (*ALONE, *NO_COPIES),
}
PLAIN = ("tracer.members.lfcc_gmm=null", "tracer.emphasis.enabled=false")  # mixtures know nothing of losses
TRACER = {
    "cross-entropy": (*PLAIN, "tracer.dispersion.regmixup=0", "tracer.dispersion.n_pair=0"),
    "+ RegMixup": (*PLAIN, "tracer.dispersion.n_pair=0"),
    "+ RegMixup of α 10 instead": (*PLAIN, "tracer.dispersion.n_pair=0", "tracer.dispersion.regmixup_alpha=10"),
    "+ N-pair": PLAIN,
}
KINDS = ("tts", "vocoder", "vc")
Peer = Callable[[Path, pd.DataFrame], pd.DataFrame]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--corpus", type=Path, required=True, help="folder with protocol.tsv")
    parser.add_argument("--part", choices=("detector", "tracer", "verdicts", "all"), default="all")
    parser.add_argument("--seeds", type=int, nargs="+", default=SEEDS)
    parser.add_argument("--no-ablations", action="store_true", help="the headline seeds alone")
    parser.add_argument("--parallel", type=int, default=2, help="runs at a time, one core each")
    parser.add_argument("--output", type=Path, default=ROOT / "runs/realset")
    chosen = parser.parse_args()
    if not (chosen.corpus / "protocol.tsv").exists():
        sys.exit(f"error: {chosen.corpus} has no protocol.tsv: give a folder corpus with --corpus")
    chosen.corpus = chosen.corpus.resolve()
    for part in (detector, tracer, verdicts):
        if chosen.part in (part.__name__, "all"):
            table = part(chosen)
            Console(width=200).print(table, markup=False)
            (chosen.output / f"{part.__name__}.md").write_text(table + "\n")


def detector(chosen: argparse.Namespace) -> str:
    """Seeds of the ensemble, WaveSpec's ablations, and peers."""
    runs = {f"ensemble, seed {seed}": (f"seed={seed}",) for seed in chosen.seeds}
    if not chosen.no_ablations:
        runs |= {name: (f"seed={chosen.seeds[0]}", *sets) for name, sets in DETECTOR.items()}
    folders = [prepare(chosen.output, name, chosen.corpus, ("tracer.members={}", *sets)) for name, sets in runs.items()]
    reproduce(folders, "precompute_cqt", "evaluate", chosen.parallel)
    evaluations = dict(zip(runs, [folder / "artifacts/evaluation" for folder in folders], strict=True))
    if not chosen.no_ablations:
        for name, peer in (("LFCC-GMM, 128 components", lfcc_gmm), ("level, silence and duration alone", cheap_cues)):
            evaluations[name] = evaluate_peer(peer, folders[0], chosen.output / peer.__name__)
    return tabulate(evaluations)


def tracer(chosen: argparse.Namespace) -> str:
    """Seeds and ablations of the tracer, and a run with one repository of each source held out. Copies are none of its business."""
    runs = {f"seed {seed}": (f"seed={seed}",) for seed in chosen.seeds}
    if not chosen.no_ablations:
        runs |= {name: (f"seed={chosen.seeds[0]}", *sets) for name, sets in TRACER.items()}
    cheap = (*NO_COPIES, "detector.members.wavespec=null", "detector.members.linear=null")  # detection is not looked at
    folders = [prepare(chosen.output, f"tracer {name}", chosen.corpus, (*cheap, *sets)) for name, sets in runs.items()]
    other = None
    if not chosen.no_ablations:
        corpus = realset_tracing.hold_out_origins(chosen.corpus, chosen.output / "held-out-origins")
        other = prepare(chosen.output, "tracer held out origins", corpus, (*cheap, f"seed={chosen.seeds[0]}"))
    reproduce([*folders, *([other] if other else [])], "precompute_cqt", "fit_ensemble", chosen.parallel)
    count = len(chosen.seeds)
    named = dict(zip(runs, folders, strict=True))
    seeds, ablations = ({name: named[name] for name in part} for part in (list(runs)[:count], list(runs)[count:]))
    return realset_tracing.tables(seeds, ablations, other, chosen.output)


def verdicts(chosen: argparse.Namespace) -> str:
    """The whole pipeline with the first seed, and what its model says of single recordings."""
    folder = prepare(chosen.output, "verdicts", chosen.corpus, (f"seed={chosen.seeds[0]}",))
    reproduce([folder], "precompute_cqt", "evaluate", 1)
    return realset_verdicts.tables(folder)


def prepare(output: Path, name: str, corpus: Path, sets: tuple[str, ...]) -> Path:
    """A workspace of its own for a run: params, the pipeline, and links to code and corpus."""
    folder = output / re.sub(r"[^a-z0-9]+", "-", name.lower())
    folder.mkdir(parents=True, exist_ok=True)
    for link, target in (("data", corpus), ("src", ROOT / "src")):
        if not (folder / link).is_symlink():
            (folder / link).symlink_to(target)
    for file in ("dvc.yaml", "requirements-image.lock"):
        shutil.copy(ROOT / file, folder)
    base = ("earmark", "params", "--preset", str(ROOT / "presets/small.yaml"))
    call(folder, *base, *(argument for setting in (CORPUS, *KNOWN_LEAKS, *sets) for argument in ("--set", setting)), "-o", "params.yaml")
    if not (folder / ".dvc").exists():
        call(folder, "dvc", "init", "--no-scm", "--quiet")
        call(folder, "dvc", "config", "cache.dir", str(output.resolve() / "cache"))
        call(folder, "dvc", "config", "cache.type", "reflink,hardlink,copy")
    return folder


def reproduce(folders: list[Path], shared: str, last: str, parallel: int) -> None:
    """Run every workspace up to stage `last`; the first one fills the cache with `shared` before."""
    call(folders[0], "dvc", "repro", shared)
    with ThreadPoolExecutor(parallel) as pool:
        list(pool.map(lambda folder: call(folder, "dvc", "repro", last), folders))


def call(folder: Path, *command: str) -> None:
    with (folder / "log.txt").open("a") as log:
        environment = os.environ | {"DVC_NO_ANALYTICS": "1"}
        done = subprocess.run(command, cwd=folder, stdout=log, stderr=subprocess.STDOUT, env=environment, check=False)
    if done.returncode:
        sys.exit(f"error: {' '.join(command[:3])} failed in {folder}: see {folder / 'log.txt'}")


def evaluate_peer(peer: Peer, workspace: Path, output: Path) -> Path:
    """A peer on the same trials, trained on the train split's recordings and spoofs without copies."""
    protocol = read_table(workspace / "artifacts/protocol.parquet")
    scores = peer(workspace, protocol)
    evaluate_tables(output, scores, protocol[protocol["split"] == "eval"], settings=Settings(seed=SEEDS[0]))
    return output


def tabulate(evaluations: dict[str, Path]) -> str:
    """Markdown: EER % with clustered 95 % intervals, a row a run, and mean ± standard deviation over the seeds."""
    rows = {name: read_row(folder) for name, folder in evaluations.items()}
    table = pd.DataFrame(rows).T
    seeds = table[table.index.str.startswith("ensemble, seed")]
    figures = ["all", "without classical engines", *KINDS]
    head = f"| detector | {' | '.join(figures)} |\n|---|{'---|' * len(figures)}"
    spread = {name: f"**{seeds[name].mean():.1f} ± {seeds[name].std(ddof=1):.1f}**" for name in figures}
    mean = " | ".join("too few trials" if seeds[name].isna().any() else spread[name] for name in figures)
    body = [f"| {name} | {' | '.join(cell(row, figure) for figure in figures)} |" for name, row in table.iterrows()]
    return "\n".join([head, f"| **ensemble, mean of {len(seeds)} seeds** | {mean} |", *body])


def cell(row: pd.Series, figure: str) -> str:
    if pd.isna(row[figure]):
        return "too few trials"
    interval = f" ({row[f'{figure} low']:.1f}–{row[f'{figure} high']:.1f})" if f"{figure} low" in row else ""
    return f"{row[figure]:.1f}{interval}"


def read_row(folder: Path) -> dict[str, float]:
    headline = pd.read_csv(folder / "headline.csv").set_index("trials")
    kinds = pd.read_csv(folder / "per_condition.csv")
    kinds = kinds[kinds["condition"] == "kind"].set_index("value")
    row = {}
    for name, trials in (("all", "all"), ("without classical engines", "without origin=local")):
        row |= {name: 100 * headline.at[trials, "eer"]}
        row |= {f"{name} {end}": 100 * headline.at[trials, f"eer_{end}"] for end in ("low", "high")}
    return row | {kind: 100 * kinds.at[kind, "eer"] for kind in KINDS}


if __name__ == "__main__":
    main()
