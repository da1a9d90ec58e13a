"""What the image is and holds, and that stages run in it below a read-only root."""

import logging
import shutil
import tomllib

import pytest
from docker.errors import ContainerError

from containers.engine import IMAGE, ROOT
from earmark import params as settings
from earmark import stages
from earmark.features.shards import Features
from earmark.model.provenance import commit

log = logging.getLogger(__name__)
pytestmark = [pytest.mark.containers, pytest.mark.timeout(1800)]


@pytest.fixture(scope="module")
def run(engine):
    """What a command says in a container without network whose root is read-only: run("earmark", "--help")."""
    client = engine.client()

    def said(*command: str, **options) -> str:
        options = {"read_only": True, "tmpfs": {"/scratch": "mode=1777"}, "network_mode": "none", "remove": True} | options
        return client.containers.run(IMAGE, list(command), **options).decode()

    yield said
    client.close()


def test_labels_and_environment_say_what_is_inside(image):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    labels = {key.removeprefix("org.opencontainers.image."): value for key, value in image.labels.items()}
    assert labels["title"] == "earmark"
    assert labels["version"] == project["version"]
    assert labels["revision"] == commit(ROOT)
    assert labels["licenses"] == project["license"]
    assert f"EARMARK_COMMIT={commit(ROOT)}" in image.attrs["Config"]["Env"]


def test_the_image_is_of_the_size_of_its_wheels(image):
    gigabytes = image.attrs["Size"] / 1e9
    log.info("%s: %.2f GB in %d layers", IMAGE, gigabytes, len(image.attrs["RootFS"]["Layers"]))
    assert gigabytes < 7.5


def test_it_runs_as_a_user_who_may_write_to_scratch_alone(run):
    assert run("id", "-u", "-n").strip() == "earmark"
    search = "find / -xdev -writable -not -type l 2> /dev/null || true"  # what it may not even look into is not writable
    writable = run("bash", "-c", search, read_only=False, tmpfs={}).split()
    assert {path for path in writable if not path.startswith(("/proc", "/dev", "/sys"))} <= {"/scratch", "/tmp", "/var/tmp", "/run/lock"}


def test_any_other_user_can_run_it_too(run):
    assert "precompute_cqt" in run("earmark", "--help", user="54321:0")


def test_no_compiler_cache_or_installer_is_left(run):
    script = "command -v gcc cc g++ clang make uv; ls /opt/earmark/bin | grep -xE 'pip3?|uv|ruff|pytest|pyright'; true"
    assert run("bash", "-c", script) == ""
    everything = run("find", "/opt", "/tmp", "/root", "/scratch", "-xdev", "-type", "f", user="root", tmpfs={}).splitlines()
    assert not [path for path in everything if "/.cache/" in path or path.startswith(("/tmp/", "/scratch/")) or path.endswith(".whl")]


def test_it_holds_the_package_of_this_checkout_and_nothing_beside_it(run):
    listing = (
        "import earmark, pathlib as p; r = p.Path(earmark.__file__).parent; print(*sorted(str(f.relative_to(r)) for f in r.rglob('*.*')))"
    )
    held = {name for name in run("python", "-c", listing).split() if "__pycache__" not in name}
    source = ROOT / "src/earmark"
    assert held == {str(path.relative_to(source)) for path in source.rglob("*.*") if "__pycache__" not in str(path)}


def test_its_packages_are_those_of_the_lock(run):
    listing = "import importlib.metadata as m; print(*(f'{d.name}=={d.version}' for d in m.distributions()))"
    held = {entry.lower().replace("_", "-").replace(".", "-") for entry in run("python", "-c", listing).split()}
    pinned = {line.split()[0] for line in (ROOT / "requirements-image.lock").read_text().splitlines() if "==" in line}
    pinned = {entry.lower().replace("_", "-").replace(".", "-") for entry in pinned}
    assert pinned <= held
    assert {entry.split("==")[0] for entry in held - pinned} == {"earmark"}


def test_torchrun_is_found_by_a_login_shell_and_without_an_environment(run):
    assert "nproc" in run("bash", "-lc", "torchrun --help")
    assert run("env", "-i", "bash", "-c", "command -v torchrun earmark").split() == ["/usr/local/bin/torchrun", "/usr/local/bin/earmark"]


def test_torch_has_cuda_and_says_that_no_gpu_is_here(run):
    said = run("python", "-c", "import torch, torchaudio; print(torch.version.cuda, torch.cuda.is_available())").split()
    assert float(said[0]) >= 12
    assert said[1] == "False"


def test_settings_are_shown_below_a_read_only_root(run):
    mounted = {str(ROOT / "params.yaml"): {"bind": "/scratch/params.yaml", "mode": "ro"}}
    assert "clip_samples" in run("earmark", "params", volumes=mounted)


def test_stages_give_the_same_bytes_as_here(run, corpus, prepared, tiny, open_folder):
    (open_folder / "params.yaml").write_text(settings.dump(tiny))
    shutil.copytree(prepared / stages.ARTIFACTS["copies"], open_folder / stages.ARTIFACTS["copies"])
    for path in (open_folder / "artifacts", open_folder / "artifacts/copies"):
        path.chmod(0o777)
    volumes = {str(corpus): {"bind": str(corpus), "mode": "ro"}, str(open_folder): {"bind": "/scratch/run", "mode": "rw"}}
    for name in ("prepare_protocol", "doctor", "precompute_cqt"):
        run("earmark", name, volumes=volumes, working_dir="/scratch/run")
    here, there = (Features(folder / stages.ARTIFACTS["features"]) for folder in (prepared, open_folder))
    assert sorted(there.index.index) == sorted(here.index.index)
    for utterance in here.usable.index:
        assert there.waveform(utterance).tobytes() == here.waveform(utterance).tobytes(), utterance
        assert there.cqt(utterance).tobytes() == here.cqt(utterance).tobytes(), utterance


def test_a_stage_that_lacks_its_input_says_so_and_ends_with_2(run):
    volumes = {str(ROOT / "params.yaml"): {"bind": "/scratch/params.yaml", "mode": "ro"}}
    with pytest.raises(ContainerError) as ended:
        run("earmark", "precompute_cqt", volumes=volumes)
    assert ended.value.exit_status == 2
    assert "run `earmark prepare_protocol` first" in ended.value.stderr.decode()
