"""Data, shards and experiments shared by a team: a DVC remote on S3, other people's clones, revisions that a run records."""

import contextlib
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from earmark import InputError, params, stages
from earmark.download.fetch import fetch
from earmark.model.manifest import read_manifest
from earmark.storage.files import file_digest
from object_store import BUCKET, S3, S3_ENVIRONMENT

ROOT = Path(__file__).resolve().parents[1]
SHARED = ["synthesize_copies", "prepare_protocol", "doctor", "precompute_cqt"]
OUTPUTS = ["data", *(stages.ARTIFACTS[stages.STAGES[name].output] for name in SHARED)]


def environment(folder: Path) -> dict[str, str]:
    who = {f"GIT_{role}_{what}": f"{what}@example.org" for role in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return S3_ENVIRONMENT | who | {"PATH": path, "DVC_NO_ANALYTICS": "1", "DVC_SITE_CACHE_DIR": str(folder / "site")}


def call(workspace: Path, *command: str, **changes: str) -> subprocess.CompletedProcess:
    given = os.environ | environment(workspace.parent) | changes
    return subprocess.run(command, cwd=workspace, capture_output=True, text=True, env=given)


def run(workspace: Path, *command: str) -> str:
    done = call(workspace, *command)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def lay_out(workspace: Path, settings: params.Params, names: list[str]) -> None:
    """A repository with the project's own stages of these names."""
    pipeline = yaml.safe_load((ROOT / "dvc.yaml").read_text())
    metrics = {name: pipeline[name] for name in ("metrics", "plots") if "keep_figures" in names}
    (workspace / "dvc.yaml").write_text(yaml.safe_dump({"stages": {name: pipeline["stages"][name] for name in names}} | metrics))
    (workspace / "params.yaml").write_text(params.dump(settings))
    for name in ("src", "requirements-image.lock"):
        (workspace / name).symlink_to(ROOT / name)
    (workspace / ".gitignore").write_text("artifacts/\n/data\n")
    run(workspace, "git", "init", "-q", "-b", "main")
    run(workspace, "dvc", "init", "-q")


def keep_figures(workspace: Path) -> None:
    """What the stage of this name does."""
    run(workspace, "bash", "-c", yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]["keep_figures"]["cmd"])


def keep(workspace: Path, tag: str) -> str:
    """Commit all and tag it; return the commit."""
    run(workspace, "git", "add", "-A")
    run(workspace, "git", "commit", "-qm", tag)
    run(workspace, "git", "tag", tag)
    return run(workspace, "git", "rev-parse", "HEAD").strip()


def contents(root: Path) -> dict[str, str]:
    files = [root] if root.is_file() else sorted(path for path in root.rglob("*") if path.is_file())
    return {path.relative_to(root).as_posix(): file_digest(path) for path in files}


def held(name: str, files: dict[str, str]) -> int:
    """Objects of an output: its files, each content once, and for a folder the list of them."""
    return len(set(files.values())) + (not name.endswith(".parquet"))


@dataclass
class Team:
    """A repository whose first revision has other data than its last; both were pushed to S3, git's part to `hub`."""

    folder: Path
    server: S3
    commits: dict[str, str]

    @property
    def made(self) -> Path:
        return self.folder / "made"

    @property
    def hub(self) -> Path:
        return self.folder / "hub.git"

    def clone(self, folder: Path) -> Path:
        """What somebody else has after `git clone`."""
        run(folder, "git", "clone", "-q", str(self.hub), "clone")
        return folder / "clone"


@pytest.fixture(scope="module")
def server() -> Iterator[S3]:
    pytest.importorskip("flask", reason="moto[server] is not installed")
    server = S3()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def team(server, corpus, change, tmp_path_factory) -> Team:
    folder = tmp_path_factory.mktemp("team")
    workspace = folder / "made"
    shutil.copytree(corpus, workspace / "data")
    settings = change(corpora=[{"adapter": "folder", "root": "data"}], copysynthesis={"splits": ["eval"]})
    lay_out(workspace, settings, SHARED)
    remote = f"['remote \"team\"']\n    url = s3://{BUCKET}/dvc\n    endpointurl = {server.address}\n"
    (workspace / ".dvc/config").write_text(f"[core]\n    remote = team\n{remote}")
    (workspace / "data/notes.txt").write_text("recorded in a quiet room\n")
    run(workspace, "dvc", "add", "-q", "data")
    commits = {"v1": keep(workspace, "v1")}
    run(workspace, "dvc", "push", "-q", "data.dvc")
    (workspace / "data/notes.txt").unlink()
    run(workspace, "dvc", "add", "-q", "data")
    with contextlib.chdir(workspace):
        for name in SHARED:
            stages.run(name, settings)
    run(workspace, "dvc", "commit", "-q", "--force")
    commits["v2"] = keep(workspace, "v2")
    run(workspace, "dvc", "push", "-q")
    run(folder, "git", "clone", "-q", "--bare", "made", "hub.git")
    return Team(folder, server, commits)


def test_a_colleague_gets_the_same_bytes_and_nothing_runs_again(team, tmp_path):
    clone = team.clone(tmp_path)
    assert not (clone / "data").exists()
    run(clone, "dvc", "pull")
    for name in OUTPUTS:
        assert contents(clone / name) == contents(team.made / name) != {}
    assert "up to date" in run(clone, "dvc", "status")
    assert "up to date" in run(clone, "dvc", "repro")
    assert run(clone, "git", "status", "--short") == ""
    assert "in sync" in run(clone, "dvc", "status", "--cloud")


def test_each_content_is_one_object_and_shards_are_few(team):
    files = {name: contents(team.made / name) for name in OUTPUTS}
    known = {digest for found in files.values() for digest in found.values()}
    folders = sum(not name.endswith(".parquet") for name in OUTPUTS)
    of_v1 = 2  # the notes, and the list of files that has them
    assert len(team.server.stored()) == len(known) + folders + of_v1
    shards = list((team.made / "artifacts/features").glob("*.safetensors"))
    assert held("artifacts/features", files["artifacts/features"]) == 2 * len(shards) + 1  # each with its index
    utterances = sum(name.endswith(".flac") for found in files.values() for name in found)
    assert utterances > 6 * len(shards)


@contextlib.contextmanager
def lost(server: S3, path: Path) -> Iterator[str]:
    """Take a file's object out of the remote for a while; its MD5."""
    digest = hashlib.md5(path.read_bytes()).hexdigest()
    key = f"dvc/files/md5/{digest[:2]}/{digest[2:]}"
    server.client.delete_object(Bucket=BUCKET, Key=key)
    try:
        yield digest
    finally:
        server.client.put_object(Bucket=BUCKET, Key=key, Body=path.read_bytes())


def test_a_lost_object_is_named_and_one_that_is_put_back_is_enough(team, tmp_path, monkeypatch):
    for name, value in environment(tmp_path).items():
        monkeypatch.setenv(name, value)
    clone, shard = team.clone(tmp_path), "artifacts/features/00001.safetensors"
    source, settings = f"dvc://{team.hub}@v2/artifacts/features", params.DownloadParams(retries=0)
    with lost(team.server, team.made / shard) as digest:
        failed = call(clone, "dvc", "pull", "artifacts/features")
        assert failed.returncode != 0
        assert digest in failed.stderr
        assert shard in run(clone, "dvc", "status", "--cloud")
        with pytest.raises(InputError, match=rf"{shard}: tracked, but not in the DVC remote: `dvc push` it"):
            fetch(source, tmp_path / "features", settings)
    run(clone, "dvc", "pull", "artifacts/features")
    fetch(source, tmp_path / "features", settings)
    assert contents(clone / "artifacts/features").items() <= contents(tmp_path / "features").items()


@pytest.mark.parametrize("wrong", [{"AWS_ACCESS_KEY_ID": "stranger"}, {"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""}])
def test_a_wrong_or_missing_credential_is_named(team, tmp_path, monkeypatch, wrong):
    team.server.check_credentials(True)
    try:
        failed = call(team.clone(tmp_path), "dvc", "pull", **wrong)
        for name, value in (environment(tmp_path) | wrong).items():
            monkeypatch.setenv(name, value)
        with pytest.raises(InputError, match=r"@v2/data: access refused: give the credentials of the DVC remote"):
            fetch(f"dvc://{team.hub}@v2/data", tmp_path / "corpus", params.DownloadParams(retries=0))
    finally:
        team.server.check_credentials(False)
    assert failed.returncode != 0
    assert f"s3 ({BUCKET}/dvc/files/md5)" in failed.stderr
    assert "Forbidden" in failed.stderr or "credentials" in failed.stderr
    assert "Traceback" not in failed.stderr


def test_a_model_names_the_older_revision_its_data_came_from_and_they_come_again_from_there(team, done, tiny, tmp_path, monkeypatch):
    for name, value in environment(tmp_path).items():
        monkeypatch.setenv(name, value)
    workspace = tmp_path / "run"
    shutil.copytree(done, workspace, ignore=shutil.ignore_patterns("data", "features"))
    (workspace / "artifacts/features").mkdir()
    monkeypatch.chdir(workspace)
    stages.run("download", tiny.model_copy(update={"download": params.DownloadParams(sources={"tiny": f"dvc://{team.hub}@v1/data"})}))
    stages.run("package_model", tiny)
    origin = read_manifest(Path(stages.ARTIFACTS["model"]))["code"]["dvc"]
    ((address, digest),) = origin["tiny"].items()
    assert address == f"dvc://{team.hub}@{team.commits['v1']}/data"
    fetched = fetch(address, tmp_path / "again/tiny", params.DownloadParams())
    assert fetched["addresses"][address]["sha256"] == digest
    first, again = (contents(folder) for folder in (workspace / "data/tiny", tmp_path / "again/tiny"))
    assert {name: one for name, one in first.items() if again.get(name) != one}.keys() == {"download.json"}  # it was asked for otherwise
    assert "notes.txt" in again


def test_a_sweep_gives_experiments_with_their_metrics(done, tiny, tmp_path):
    workspace = tmp_path / "sweep"
    shutil.copytree(done / "artifacts", workspace / "artifacts")
    lay_out(workspace, tiny, ["train_detector", "score_detector", "fit_ensemble", "evaluate", "keep_figures"])
    keep_figures(workspace)
    run(workspace, "dvc", "commit", "-q", "--force")
    keep(workspace, "baseline")
    run(workspace, "dvc", "exp", "run", "-q", "--name", "long", "--set-param", "detector.members.linear.training.epochs=3")
    (baseline,) = json.loads(run(workspace, "dvc", "exp", "show", "--json"))[1:]
    rows = {"baseline": baseline, "long": baseline["experiments"][0]["revs"][0]}
    assert rows["long"]["name"] == "long"
    metrics = {name: row["data"]["metrics"]["metrics/metrics.json"]["data"] for name, row in rows.items()}
    epochs = {
        name: row["data"]["params"]["params.yaml"]["data"]["detector"]["members"]["linear"]["training"]["epochs"]
        for name, row in rows.items()
    }
    assert epochs == {"baseline": tiny.detector.members["linear"].training.epochs, "long": 3}
    assert any(name.endswith("/eer") for name in metrics["long"])
    assert metrics["long"] != metrics["baseline"]


def test_a_clone_without_data_or_remote_shows_and_compares_figures(tiny, tmp_path):
    workspace, made = tmp_path / "made", tmp_path / "made/artifacts/evaluation"
    made.mkdir(parents=True)
    lay_out(workspace, tiny, ["keep_figures"])
    for tag, eer in (("v1", 0.3), ("v2", 0.2)):
        (made / "metrics.json").write_text(json.dumps({"tiny/eer": eer}))
        (made / "det.csv").write_text(f"corpus,threshold,false_alarm,miss\ntiny,0.0,{eer},{eer}\n")
        (made / "training.csv").write_text(f"epoch,dev/eer\n1,{eer}\n")
        run(workspace, "dvc", "repro", "-q")
        keep(workspace, tag)
    run(tmp_path, "git", "clone", "-q", "made", "clone")
    clone = tmp_path / "clone"
    assert not (clone / "artifacts").exists()
    assert "0.2" in run(clone, "dvc", "metrics", "show")
    (row,) = json.loads(run(clone, "dvc", "metrics", "diff", "--json", "v1", "v2"))["metrics/metrics.json"].values()
    assert (row["old"], row["new"]) == (0.3, 0.2)
    assert "0.3" in run(clone, "dvc", "metrics", "diff", "v1")
    shown = call(clone, "dvc", "plots", "show", "--out", "plots")
    assert (shown.returncode, "failed" in shown.stderr) == (0, False)
    assert "dev EER" in (clone / "plots/index.html").read_text()
    assert run(clone, "git", "status", "--short").split() == ["??", "plots/"]


SMALL = """
stages:
  shout:
    cmd: mkdir -p artifacts && cat src/words/a.txt data/b.txt > artifacts/c.txt
    params: [seed]
    deps: [src/words, data]
    outs: [artifacts/c.txt]
  whisper:
    cmd: cat artifacts/c.txt > artifacts/d.txt
    deps: [artifacts/c.txt]
    outs: [artifacts/d.txt]
"""


@pytest.fixture(scope="module")
def locked(tmp_path_factory) -> Path:
    """A committed repository of two stages whose dvc.lock is what they make."""
    workspace = tmp_path_factory.mktemp("locked") / "made"
    for name, text in {"dvc.yaml": SMALL, "params.yaml": "seed: 1\n", "src/words/a.txt": "a\n", "data/b.txt": "b\n"}.items():
        (workspace / name).parent.mkdir(parents=True, exist_ok=True)
        (workspace / name).write_text(text)
    (workspace / ".gitignore").write_text("/artifacts/\n/data\n")
    run(workspace, "git", "init", "-q", "-b", "main")
    run(workspace, "dvc", "init", "-q")
    run(workspace, "dvc", "add", "-q", "data")
    run(workspace, "dvc", "repro", "-q")
    keep(workspace, "v1")
    return workspace


@pytest.mark.parametrize(
    ("file", "old", "new", "said"),
    [
        ("src/words/a.txt", "", "", None),
        ("src/words/a.txt", "a", "x", r"shout: src/words differs \(src/words/a.txt\)"),
        ("src/words/new.txt", "", "x", r"shout: src/words differs \(src/words/new.txt\)"),
        ("params.yaml", "1", "2", "shout: params.yaml: seed differs"),
        ("dvc.yaml", "mkdir -p", "mkdir --parents", "shout: changed command"),
        ("dvc.yaml", "whisper:", "murmur:", "murmur: not in dvc.lock\n  whisper: not in dvc.yaml"),
    ],
)
def test_a_lock_that_is_not_of_the_code_is_named_without_data_or_cache(locked, tmp_path, file, old, new, said):
    run(tmp_path, "git", "clone", "-q", str(locked), "clone")
    clone = tmp_path / "clone"
    path = clone / file
    path.write_text(path.read_text().replace(old, new, 1) if path.exists() and old else new or path.read_text())
    checked = call(clone, sys.executable, str(ROOT / ".ci/check_lock.py"))
    assert checked.returncode == bool(said), checked.stdout + checked.stderr
    assert not said or re.search(said, checked.stdout)
    assert not said or "run `make demo`, then commit dvc.lock" in checked.stdout


def test_a_lock_whose_stages_read_other_bytes_than_were_written_is_named(locked, tmp_path):
    run(tmp_path, "git", "clone", "-q", str(locked), "clone")
    clone = tmp_path / "clone"
    lock = yaml.safe_load((clone / "dvc.lock").read_text())
    lock["stages"]["whisper"]["deps"][0]["md5"] = "0" * 32
    (clone / "dvc.lock").write_text(yaml.safe_dump(lock))
    tracked = yaml.safe_load((clone / "data.dvc").read_text())
    tracked["outs"][0]["md5"] = f"{'0' * 32}.dir"
    (clone / "data.dvc").write_text(yaml.safe_dump(tracked))
    checked = call(clone, sys.executable, str(ROOT / ".ci/check_lock.py"))
    assert checked.returncode == 1
    assert "whisper: artifacts/c.txt is another than shout has" in checked.stdout
    assert "shout: data is another than data.dvc has" in checked.stdout
