"""Does the demo end well for other seeds too? Its stages from training on, the gate, promotion and two checked files, for seed after seed.

    make data/protocol.tsv && python bench/demo_seeds.py --seeds 10

prints a Markdown table: a row a seed. What no seed changes (copies, protocol, diagnosis, features) is made once and shared. Every
seed has a folder of its own below `--place`, with its own registry; a stage that is done there is not run again, so a killed run goes on.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import yaml

from earmark import stages
from earmark.storage.files import read_table, write_json

ROOT = Path(__file__).resolve().parents[1]
FILES = (
    "data/bonafide/en-gb-scotland-max/eval6.flac",
    "artifacts/copies/spoof/griffin_lim_linear/en-gb-scotland-max-eval6.flac",
)  # those that `make demo` checks
PIPELINE = [stage for stage in stages.STAGES.values() if "dvc" in stage.runs_on]
SHARED = [stage for stage in PIPELINE if "seed" not in stage.sections and stage.name in (
    "synthesize_copies", "prepare_protocol", "doctor", "precompute_cqt", "precompute_front_end")]  # fmt: skip
OWN = [stage for stage in PIPELINE if stage not in SHARED]


def prepare(place: Path, threads: int, seed: int | None, shared: Path | None) -> Path:
    """A folder that stages run in, with params of this seed; one of other params is begun again."""
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    params["compute"]["threads"] = threads
    if seed is not None:
        params["seed"] = seed
    text = yaml.safe_dump(params)
    if (place / "params.yaml").exists() and (place / "params.yaml").read_text() != text:
        shutil.rmtree(place)
    (place / "artifacts").mkdir(parents=True, exist_ok=True)
    (place / "params.yaml").write_text(text)
    links = {"data": ROOT / "data"}
    if shared is not None:
        links |= {stages.ARTIFACTS[stage.output]: shared / stages.ARTIFACTS[stage.output] for stage in SHARED}
    for name, target in links.items():
        if not (place / name).is_symlink():
            (place / name).symlink_to(target)
    return place


def run(place: Path, name: str, *command: str, may_fail: bool = False) -> None:
    """Run `earmark …` there unless that is done, and note how long it took; its output goes to a log beside it."""
    path = place / "done.json"
    done = json.loads(path.read_text()) if path.exists() else {}
    if name in done:
        return
    started = time.monotonic()
    with (place / f"{name}.log").open("w") as log:
        environment = os.environ | {"EARMARK_RUN": place.name, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
        process = subprocess.Popen(["earmark", *command], cwd=place, env=environment, stdout=log, stderr=subprocess.STDOUT)
        _, status, usage = os.wait4(process.pid, 0)
        code = process.returncode = os.waitstatus_to_exitcode(status)
    if code and not may_fail:
        raise SystemExit(f"{place}: earmark {' '.join(command)} ended with {code}: see {place / name}.log")
    spent = {"seconds": time.monotonic() - started, "cpu": usage.ru_utime + usage.ru_stime, "code": code}
    write_json(path, done | {name: spent})


def judge(place: Path) -> str:
    """A seed's stages, promotion and checks; its row of the table."""
    for stage in OWN:
        run(place, stage.name, stage.name)
    run(place, "promote", "promote", may_fail=True)
    run(place, "check", "check", *FILES, "--html", "artifacts/check", may_fail=True)
    done = json.loads((place / "done.json").read_text())
    decision = json.loads((place / "artifacts/decision/decision.json").read_text())
    failed = [f"{rule['rule']} {rule['place']} {rule['figure']}".strip() for rule in decision["rules"] if not rule["passed"]]
    first = next(rule for rule in decision["rules"] if (rule["rule"], rule["figure"]) == ("first", "eer"))
    grid = read_table(place / "artifacts/robustness/robustness.parquet")
    worst = grid.loc[grid["eer"].idxmax()]
    interval = f"{100 * worst['eer_low']:.0f}–{100 * worst['eer_high']:.0f}"
    ended = "promoted" if not done["promote"]["code"] else "not promoted"
    gate = "pass" if not failed else f"refused: {'; '.join(failed)}"
    return " | ".join(
        (
            f"| {place.name.removeprefix('seed-')}",
            f"{100 * first['challenger']:.1f}",
            f"{worst['degradation']} {worst['level']}".strip(),
            f"{100 * worst['eer']:.1f} ({interval})",
            f"{100 * grid['eer'].mean():.1f}",
            f"{gate}, {ended}, check ended with {done['check']['code']}",
            f"{sum(one['seconds'] for one in done.values()):.0f} ({sum(one['cpu'] for one in done.values()):.0f}) |",
        )
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=10, help="how many seeds, from params.yaml's on")
    parser.add_argument("--at-once", type=int, default=2, help="seeds that run at the same time")
    parser.add_argument("--threads", type=int, default=1, help="threads of each")
    parser.add_argument("--place", type=Path, default=ROOT / "build/demo_seeds", help="folder to work in; what is done there is kept")
    options = parser.parse_args()
    if not (ROOT / "data/protocol.tsv").exists():
        raise SystemExit("there are no voices in data/: make data/protocol.tsv")
    first = int(yaml.safe_load((ROOT / "params.yaml").read_text())["seed"])
    shared = prepare(options.place.resolve() / "shared", options.threads, None, None)
    for stage in SHARED:
        run(shared, stage.name, stage.name)
    places = [
        prepare(options.place.resolve() / f"seed-{seed}", options.threads, seed, shared) for seed in range(first, first + options.seeds)
    ]
    times = f"seconds (of CPU), {options.at_once} at once with {options.threads} thread each"
    print(f"| seed | eval EER % | worst degradation | its EER % (interval) | mean of all | gate | {times} |")
    print("|---|---|---|---|---|---|---|")
    with ThreadPoolExecutor(options.at_once) as pool:
        for row in pool.map(judge, places):
            print(row, flush=True)


if __name__ == "__main__":
    main()
