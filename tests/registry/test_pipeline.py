import os
import subprocess
import sys
from pathlib import Path

from earmark.model.provenance import commit
from earmark.registry.pipeline import pipeline_key, who

KEY = "from earmark.registry.pipeline import pipeline_key; print(pipeline_key())"


def keys(script: str, cwd: Path) -> list[str]:
    """What a shell's commands print; bash replaces itself by the last command, so that is to be another one."""
    environment = {name: value for name, value in os.environ.items() if name != "EARMARK_RUN"}
    return subprocess.run(["bash", "-c", script], cwd=cwd, env=environment, capture_output=True, text=True, check=True).stdout.split()


def command(folder: Path, name: str) -> str:
    """A program of that name that prints its pipeline's key."""
    (folder / name).write_text(f"{KEY}\n")
    return f"{sys.executable} {folder / name}"


def test_commands_of_one_shell_belong_together_and_those_of_another_do_not(tmp_path):
    earmark = command(tmp_path, "earmark")
    first = keys(f"{earmark}; {earmark}; true", tmp_path)
    assert first[0] == first[1]
    assert keys(f"{earmark}; true", tmp_path)[0] != first[0]


def test_a_program_that_calls_stages_is_a_run_of_its_own(tmp_path):
    program = command(tmp_path, "study.py")
    one, two = keys(f"{program}; {program}", tmp_path)
    assert one != two


def test_all_below_one_dvc_belong_together(tmp_path):
    earmark = command(tmp_path, "earmark")
    (tmp_path / "dvc").write_text(f"import subprocess\nfor _ in range(2):\n    subprocess.run(['bash', '-c', '{earmark}; true'])\n")
    one, two = keys(f"{sys.executable} dvc; true", tmp_path)
    assert one == two


def test_the_environment_names_the_run_of_stages_on_many_machines(monkeypatch):
    monkeypatch.setenv("EARMARK_RUN", "flow's run/7")
    assert pipeline_key() == "flow_s_run_7"


def test_a_commit_says_when_files_differ_from_it(tmp_path):
    assert commit(tmp_path) is None
    git = ["git", "-C", str(tmp_path), "-c", "user.name=me", "-c", "user.email=me@example.org"]
    subprocess.run([*git, "init", "--quiet"], check=True)
    (tmp_path / "metrics").mkdir()
    for name in ("file", "dvc.lock", "metrics/metrics.json"):
        (tmp_path / name).write_text("1")
    subprocess.run([*git, "add", "."], check=True)
    subprocess.run([*git, "commit", "--quiet", "-m", "one"], check=True)
    clean = commit(tmp_path) or ""
    assert len(clean) == 40
    for name in ("dvc.lock", "metrics/metrics.json"):  # what a run writes itself
        (tmp_path / name).write_text("2")
    assert commit(tmp_path) == clean
    (tmp_path / "file").write_text("2")
    assert commit(tmp_path) == f"{clean}-dirty"


def test_a_user_has_a_name():
    assert "@" in who()
