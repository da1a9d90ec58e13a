import inspect
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from earmark import InputError, params, stages
from earmark.storage.files import read_table

INPUTS = [(stage.name, key) for stage in stages.STAGES.values() for key in stage.inputs]


def earmark(*arguments: str, cwd: Path) -> subprocess.CompletedProcess:
    environment = os.environ | {"COLUMNS": "200", "OMP_NUM_THREADS": "1"}
    return subprocess.run([sys.executable, "-m", "earmark", *arguments], cwd=cwd, env=environment, capture_output=True, text=True)


def test_the_stages_run_one_after_the_other_to_figures_and_metrics(done):
    made = [stages.ARTIFACTS[stage.output] for stage in stages.STAGES.values() if "dvc" in stage.runs_on]
    assert all((done / place).exists() for place in made)
    folder = done / stages.ARTIFACTS["evaluation"]
    metrics = json.loads((folder / "metrics.json").read_text())
    assert 0 <= metrics["tiny/eer"] <= 1
    assert (metrics["tiny/bonafide"], metrics["tiny/spoof"]) == (4, 12)
    assert {path.name for path in (folder / "figures").iterdir()} == {
        *("det.png", "scores_tiny.png", "sources_tiny.png", "embeddings_tiny.png"),
        *("training_wavespec.png", "training_linear.png"),
        *("reliability_tiny.png", "tippett_tiny.png"),
        *("tracing_confusion_tiny.png", "tracing_embeddings_tiny.png"),
    }
    assert 0 <= metrics["tiny/tracing/accuracy"] <= 1
    assert (metrics["tiny/tracing/known"], metrics["tiny/tracing/unseen"]) == (4, 0)


def test_the_table_of_trials_holds_recordings_and_the_copies_made_of_them(protocol):
    made = protocol[protocol["copied"]]
    counts = made.groupby(["split", "source"]).size().to_dict()
    assert counts == {("train", "codec_mp3"): 7, ("eval", "codec_mp3"): 4, ("eval", "phase_vocoder"): 4}
    assert set(made["key"]) == {"spoof"}
    assert not made.loc[made["source"] == "phase_vocoder", "in_domain"].any()
    assert set(protocol["corpus"]) == {"tiny"}
    assert (protocol["seconds"] > 0).all()


def test_nothing_is_left_half_written(done):
    assert not list(done.rglob(".*.part"))
    assert not (done / stages.ARTIFACTS["detectors"] / "wavespec.state.safetensors").exists()


def test_an_evaluation_has_the_same_numbers_twice(done, tiny):
    before = (done / stages.ARTIFACTS["evaluation"] / "metrics.json").read_bytes()
    stages.run("evaluate", tiny, done)
    assert (done / stages.ARTIFACTS["evaluation"] / "metrics.json").read_bytes() == before


@pytest.mark.parametrize(
    ("name", "sections"),
    {
        "download": {"download"},
        "synthesize_copies": {"corpora", "trials", "decoding", "copysynthesis"},
        "prepare_protocol": {"corpora", "trials", "decoding"},
        "doctor": {"doctor", "trials", "decoding"},
        "precompute_cqt": {"decoding", "audio", "cqt", "sharding", "trials"},
        "train_detector": {"seed", "audio", "cqt", "detector", "scoring", "compute"},
        "score_detector": {"audio", "cqt", "detector", "scoring", "compute"},
        "precompute_front_end": {"front_end", "compute"},
        "train_tracer": {"seed", "audio", "cqt", "front_end", "tracer", "compute"},
        "embed_utterances": {"audio", "cqt", "front_end", "tracer", "compute"},
        "fit_ensemble": {"detector", "tracer", "ensemble"},
        "package_model": {
            *("seed", "corpora", "decoding", "audio", "cqt", "detector", "front_end", "tracer", "scoring", "verdict", "compute")
        },
        "robustness": {"seed", "robustness", "compute"},
        "evaluate": {"seed", "trials", "evaluation"},
        "register": {"tracking"},
        "gate": {"seed", "gate"},
        "check_recordings": {"compute"},
    }.items(),
)
def test_a_stage_gets_the_sections_it_uses(name, sections):
    assert set(stages.STAGES[name].sections) == sections


@pytest.mark.parametrize("name", stages.STAGES)
def test_a_stage_s_function_takes_just_what_the_table_says(name):
    stage = stages.STAGES[name]
    given = inspect.signature(stage.function).parameters.values()
    by_keyword = {one.name for one in given if one.kind is one.KEYWORD_ONLY}
    assert by_keyword == {*stage.inputs, "output", *([stage.option] if stage.option else [])}
    rest = [one for one in given if one.name not in by_keyword]
    assert [one.name for one in rest] == ["sections"] if rest[0].kind is rest[0].VAR_KEYWORD else list(stage.sections)


def test_every_section_of_params_serves_a_stage():
    assert {section for stage in stages.STAGES.values() for section in stage.sections} == set(params.Params.model_fields)


def test_no_stage_but_the_registration_depends_on_where_its_figures_are_tracked():
    assert [name for name, stage in stages.STAGES.items() if "tracking" in stage.sections] == ["register"]
    assert {name for name, stage in stages.STAGES.items() if stage.tracked} == {
        *("doctor", "train_detector", "train_tracer", "fit_ensemble", "robustness", "evaluate"),
    }


def test_stages_read_what_earlier_stages_write():
    written = set()
    for stage in stages.STAGES.values():
        assert set(stage.inputs) <= written
        written.add(stage.output)
    assert written == set(stages.ARTIFACTS)
    shared = {name: stage.option for name, stage in stages.STAGES.items() if stage.option}
    sharded = dict.fromkeys(("precompute_cqt", "score_detector", "precompute_front_end", "embed_utterances", "check_recordings"), "shard")
    assert shared == sharded | {"train_detector": "member", "train_tracer": "member"}


@pytest.mark.parametrize(("name", "key"), INPUTS)
def test_an_input_that_is_not_there_is_said_with_the_stage_that_makes_it(done, tiny, tmp_path, name, key):
    (tmp_path / "artifacts").mkdir()
    for other in stages.STAGES[name].inputs:
        if other != key:
            (tmp_path / stages.ARTIFACTS[other]).symlink_to(done / stages.ARTIFACTS[other] if other != "data" else tmp_path)
    maker = next(stage.name for stage in stages.STAGES.values() if stage.output == key)
    with pytest.raises(InputError, match=f"{stages.ARTIFACTS[key]} does not exist: run `earmark {maker}` first"):
        stages.run(name, tiny, tmp_path)


def test_a_run_without_copy_synthesis_goes_through(change, tmp_path):
    settings = change(copysynthesis={"known": [], "unseen": []})
    assert stages.run("synthesize_copies", settings, tmp_path) == {"copies": 0}
    counts = stages.run("prepare_protocol", settings, tmp_path)
    assert counts == {"train/bonafide": 7, "train/spoof": 7, "dev/bonafide": 3, "dev/spoof": 3, "eval/bonafide": 4, "eval/spoof": 4}
    assert not read_table(tmp_path / stages.ARTIFACTS["protocol"])["copied"].any()


def test_help_does_not_load_torch(tmp_path):
    program = "import sys; sys.argv = ['earmark', '--help']; from earmark.__main__ import main\n"
    program += "try: main()\nexcept SystemExit: print(sorted({'torch', 'transformers', 'pandas', 'mlflow', 'kfp'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_every_command_stands_in_a_group_with_its_help_and_check_is_the_first(tmp_path):
    from earmark.__main__ import GROUPS, app

    lines = [line.strip("│ ") for line in earmark("--help", cwd=tmp_path).stdout.splitlines()]
    places = [next(number for number, line in enumerate(lines) if f" {group} " in line) for group in GROUPS]
    assert places == sorted(places)
    listed = {}
    for command in app.registered_commands:
        name = command.name or command.callback.__name__
        listed[name] = next(number for number, line in enumerate(lines) if line.startswith(f"{name} ") and len(line.split()) > 3)
    assert min(listed, key=listed.get) == "check"
    assert set(stages.STAGES) <= set(listed)


def test_a_wrong_params_file_is_one_line_and_exit_code_2(tmp_path):
    (tmp_path / "params.yaml").write_text("verdict: {speed: 9}\n")
    done = earmark("prepare_protocol", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.splitlines() == ["error: params.yaml: verdict.speed: unknown key; `earmark params` lists the known ones"]
    assert done.stdout == ""


def test_params_are_printed_and_written(tmp_path):
    (tmp_path / "params.yaml").write_text("seed: 5\n")
    (tmp_path / "mine.yaml").write_text("tracer: {training: {epochs: 7}}\n")
    done = earmark("params", "--preset", "mine.yaml", "--set", "tracer.training.lr=0.5", "-o", "out.yaml", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    found = params.load(tmp_path / "out.yaml")
    assert (found.seed, found.tracer.training.epochs, found.tracer.training.lr) == (688, 7, 0.5)  # a preset stands alone
    laid = earmark("params", "--preset", "mine.yaml", "--preset", "params.yaml", "-o", "two.yaml", cwd=tmp_path)
    assert laid.returncode == 0, laid.stderr
    both = params.load(tmp_path / "two.yaml")
    assert (both.seed, both.tracer.training.epochs) == (5, 7)
    printed = earmark("params", "--params", "out.yaml", cwd=tmp_path).stdout
    assert all(key in printed for key, *_ in params.describe(found))
    assert all(word in printed for word in ("paper", "port", "ours"))


def test_a_preset_that_is_not_there_is_said(tmp_path):
    (tmp_path / "params.yaml").write_text("seed: 5\n")
    done = earmark("params", "--preset", "huge", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("error: --preset huge: there is no folder presets/ here")
    assert len(done.stderr.splitlines()) == 1
