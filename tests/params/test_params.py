import sys
from pathlib import Path
from typing import get_args

import pytest

from earmark import InputError, params
from earmark.__main__ import main
from earmark.copies.copysynthesis import SYSTEMS
from earmark.params.run import read_assignment

ROOT = Path(__file__).parents[2]
PRESETS = sorted((ROOT / "presets").glob("*.yaml"))


def explain(content: dict) -> str:
    with pytest.raises(InputError) as caught:
        params.parse(content, "own.yaml")
    return str(caught.value)


WAVESPEC = "detector.members.wavespec"


def of_wavespec(**sections) -> dict:
    """Settings of the detector's member wavespec."""
    return {"detector": {"members": {"wavespec": sections}}}


def test_an_unknown_key_is_refused_by_its_path():
    assert explain(of_wavespec(network={"encoder": {"layers": 3}})).startswith(
        "own.yaml: detector.members.wavespec.network.encoder.layers: unknown key"
    )


@pytest.mark.parametrize(
    ("content", "path", "allowed"),
    [
        (of_wavespec(training={"lr": 0}), "detector.members.wavespec.training.lr", "greater than 0"),
        (of_wavespec(training={"batch_size": 1}), "detector.members.wavespec.training.batch_size", "greater than or equal to 2"),
        ({"audio": {"level_dbfs": 3}}, "audio.level_dbfs", "less than or equal to -10"),
        (of_wavespec(augmentation={"rawboost": 9}), "detector.members.wavespec.augmentation.rawboost", "0, 1, 2, 3, 4, 5, 6, 7 or 8"),
        (
            of_wavespec(network={"views": "phase"}),
            "detector.members.wavespec.network.views",
            "'both', 'waveform' or 'spectrogram'",
        ),
        (of_wavespec(network={"encoder": {"taps": [3, 2, 1]}}), "detector.members.wavespec.network.encoder", "taps must rise"),
        (of_wavespec(network={"encoder": {"hidden": 48, "heads": 5}}), "detector.members.wavespec.network.encoder", "must divide"),
        ({"cqt": {"bins": 96, "fmin_hz": 40}}, "cqt", "above 8,000 Hz"),
        ({"corpora": [{"splits": ["test"]}]}, "corpora.0.splits.0", "'train', 'dev' or 'eval'"),
        ({"corpora": []}, "corpora", "at least 1 item"),
        ({"seed": "many"}, "seed", "integer"),
    ],
)
def test_a_wrong_value_is_refused_with_its_path_and_what_is_allowed(content, path, allowed):
    message = explain(content)
    assert message.startswith(f"own.yaml: {path}: ")
    assert allowed in message


def test_all_wrong_keys_are_named_at_once():
    message = explain({"sed": 1, **of_wavespec(training={"lr": -1, "epochs": 0})})
    assert len(message.splitlines()) == 3
    assert all(path in message for path in ("sed", "training.lr", "training.epochs"))


def test_overlays_and_assignments_are_laid_over_the_file_in_order(tmp_path):
    for name, text in {
        "base": "seed: 1\ntracer: {training: {epochs: 3, lr: 0.1}}",
        "one": "tracer: {training: {epochs: 4}}",
        "two": "tracer: {training: {lr: 0.2}}\ncqt: {bins: 60}",
    }.items():
        (tmp_path / f"{name}.yaml").write_text(text)
    overlays = [tmp_path / "one.yaml", tmp_path / "two.yaml"]
    found = params.load(tmp_path / "base.yaml", overlays, ["tracer.training.epochs=5", f"{WAVESPEC}.network.spectrogram.widths=[4, 5, 6]"])
    assert (found.seed, found.tracer.training.epochs, found.tracer.training.lr, found.cqt.bins) == (1, 5, 0.2, 60)
    assert found.detector.members["wavespec"].network.spectrogram.widths == (4, 5, 6)


def test_an_empty_section_or_one_of_another_kind_replaces_and_a_null_member_is_left_out(tmp_path):
    (tmp_path / "base.yaml").write_text(params.dump(params.Params()))
    wanted = ["front_end={kind: cqt, phase: angle}", "tracer.members.aasist=null", "tracer.members.conformer.layers=2"]
    found = params.load(tmp_path / "base.yaml", assignments=wanted)
    assert (found.front_end.kind, found.front_end.phase) == ("cqt", "angle")
    assert set(found.tracer.members) == {"conformer", "lfcc_gmm"}
    assert found.tracer.members["conformer"].layers == 2
    assert params.load(tmp_path / "base.yaml", assignments=["tracer.members={}"]).tracer.members == {}


@pytest.mark.parametrize("text", ["training: [", "- 1", ""])
def test_a_file_that_holds_no_settings_is_refused_by_name(tmp_path, text):
    path = tmp_path / "own.yaml"
    path.write_text(text)
    with pytest.raises(InputError, match=r"own\.yaml"):
        params.load(path)


def test_a_missing_file_and_a_malformed_assignment_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"nothing\.yaml: no such file"):
        params.load(tmp_path / "nothing.yaml")
    (tmp_path / "own.yaml").write_text("seed: 1")
    with pytest.raises(InputError, match=r"write key\.path=value"):
        params.load(tmp_path / "own.yaml", assignments=["seed"])
    with pytest.raises(InputError, match=r"tracer\.training\.lr"):
        params.load(tmp_path / "own.yaml", assignments=["tracer.training.lr=fast"])
    with pytest.raises(InputError, match="--set"):
        params.load(tmp_path / "own.yaml", assignments=["tracer.training.lr=[1"])


def test_a_wrong_setting_is_blamed_on_the_layer_that_it_stands_in(tmp_path):
    (tmp_path / "base.yaml").write_text("seed: 1\ntracer: {training: {epochs: 3}}")
    (tmp_path / "small.yaml").write_text("tracer: {training: {lr: slow}}")
    with pytest.raises(InputError) as caught:
        params.load(tmp_path / "base.yaml", [tmp_path / "small.yaml"], ["trainin.epochs=2", "corpora=[{adapter: none}]"])
    lines = sorted(str(caught.value).splitlines())
    assert [line.split(": ")[0] for line in lines] == ["--set corpora=[{adapter", "--set trainin.epochs=2", str(tmp_path / "small.yaml")]


def test_a_refused_corpus_is_named_once():
    assert explain({"corpora": [{"adapter": "none"}]}).startswith("own.yaml: corpora.0.adapter: Input should be 'folder'")
    assert len(explain({"corpora": [{"adapter": "none"}]}).splitlines()) == 1


def test_yaml_that_cannot_be_read_is_named_with_its_line(tmp_path):
    (tmp_path / "own.yaml").write_text("seed: 1\ntraining: {epochs: 3")
    with pytest.raises(InputError, match=r"own\.yaml: not YAML: line 2, column 21: ") as caught:
        params.load(tmp_path / "own.yaml")
    assert "<unicode" not in str(caught.value)


def test_every_copy_synthesis_system_may_be_named_and_no_other():
    assert set(SYSTEMS) == set(get_args(params.CopySystem))
    assert "'world'" in explain({"copysynthesis": {"known": ["vocoder9"]}})


@pytest.mark.parametrize("value", [("train", "dev"), None, True, {}, 1e-7, "mlaad", "a: b", "yes"])
def test_a_spelt_value_is_what_an_assignment_takes(value):
    line = params.spell(value)
    assert "\n" not in line
    assert read_assignment(f"key={line}") == {"key": list(value) if isinstance(value, tuple) else value}


def test_settings_cannot_be_changed_after_they_were_checked():
    with pytest.raises(ValueError, match="frozen"):
        params.Params().seed = 1


def test_a_dump_is_read_back_as_the_same_settings(tmp_path):
    changed = params.parse(
        {"seed": 3, **of_wavespec(training={"lr": 1e-7}), "corpora": [{"root": "a"}, {"root": "b", "splits": ["eval"]}]}, "x"
    )
    (tmp_path / "dump.yaml").write_text(params.dump(changed))
    assert params.load(tmp_path / "dump.yaml") == changed


def test_every_setting_says_what_it_is_and_where_it_comes_from():
    rows = list(params.describe(params.Params()))
    assert len({key for key, *_ in rows}) == len(rows) > 60
    assert all(provenance in ("paper", "port", "ours") and description for _, _, provenance, description in rows)
    found = {row[:3] for row in rows if isinstance(row[1], float | str)}
    assert {(f"{WAVESPEC}.training.lr", 1e-4, "ours"), ("tracer.members.conformer.kind", "conformer", "paper")} <= found


def stated(content: object, path: str = "") -> dict[str, object]:
    """Leaves of nested settings by dotted path."""
    pairs = content.items() if isinstance(content, dict) else enumerate(content) if path == "corpora" else ()
    leaves = {key: value for name, item in pairs for key, value in stated(item, f"{path}.{name}".lstrip(".")).items()}
    return leaves or {path: content}


@pytest.mark.parametrize("preset", PRESETS, ids=lambda path: path.stem)
def test_a_preset_stands_alone_every_value_is_its_own_or_the_code_s_default(preset, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(ROOT)  # where the demo's params.yaml lies
    run_command(monkeypatch, "--preset", preset.stem, "-o", str(tmp_path / "out.yaml"))
    written, own = (stated(params.parse_yaml(path.read_text(), str(path))) for path in (tmp_path / "out.yaml", preset))
    differing = {key: value for key, value in written.items() if value not in ({}, 688) and not key.endswith(".kind")}
    assert differing == {key: value for key, value in own.items() if not key.endswith(".kind") and key in differing}
    assert params.load(tmp_path / "out.yaml") == params.load(preset)


def test_the_paper_preset_is_the_paper():
    """METHODS' table: what the paper and its port say."""
    found = params.load(ROOT / "presets/paper.yaml")
    assert [(corpus.adapter, corpus.splits) for corpus in found.corpora] == [
        ("asvspoof2019_la", ("train", "dev")),
        ("asvspoof2021_df", ("eval",)),
        ("in_the_wild", ("eval",)),
    ]
    assert (found.audio.clip_samples, found.audio.level_dbfs) == (64_600, -26)
    assert (found.cqt.hop_samples, found.cqt.bins, found.cqt.bins_per_octave, found.cqt.fmin_hz) == (320, 84, 12, 32.70)
    (member,) = found.detector.members.values()
    network = member.network
    assert (network.views, network.encoder.pretrained, network.encoder.taps) == ("both", "facebook/wav2vec2-xls-r-300m", (8, 16, 24))
    assert (network.spectrogram.scale, network.spectrogram.phase, network.spectrogram.widths) == ("cqt", "angle", (64, 128, 256))
    assert (network.reduction, network.head, network.head_widths) == (16, "1d", (64, 128, 256, 512))
    assert (network.view_dropout, network.dropout) == (0, 0)
    assert (member.loss.class_weights, member.loss.single_center, member.loss.margin) == ((0.1, 0.9), 0.5, 0.3)
    training = member.training
    assert (training.epochs, training.repeats, training.batch_size, training.patience, training.keep) == (50, 1, 14, 10, "best")
    assert (training.lr, training.encoder_lr, training.weight_decay, training.frozen_epochs) == (1e-4, 1e-6, 1e-4, 1)
    assert (training.halve_epochs, training.balance) == (0, False)
    assert (member.augmentation.rawboost, member.augmentation.probability, member.augmentation.snr_db) == (3, 1, (10, 40))
    assert (member.augmentation.spectrogram_bands, member.augmentation.spectrogram_frames) == (0, 0)
    assert (found.copysynthesis.known, found.copysynthesis.unseen) == ((), ())


def test_the_tracing_preset_is_the_paper():
    found = params.load(ROOT / "presets/paper-tracing.yaml")
    front_end, tracer = found.front_end, found.tracer
    assert (front_end.kind, front_end.pretrained, front_end.layer) == ("wav2vec2", "facebook/wav2vec2-xls-r-300m", 5)
    emphasis, dispersion, training = tracer.emphasis, tracer.dispersion, tracer.training
    assert (emphasis.enabled, emphasis.oc_softmax, emphasis.r_real, emphasis.r_fake, emphasis.alpha) == (True, 1, 0.9, 0.2, 20)
    assert (dispersion.regmixup, dispersion.regmixup_alpha, dispersion.n_pair, dispersion.n_pair_penalty) == (1, 0.5, 1, 0.002)
    assert (training.epochs, training.batch_size, training.lr, training.weight_decay, training.halve_epochs) == (30, 128, 5e-4, 5e-4, 10)
    conformer, aasist = tracer.members["conformer"], tracer.members["aasist"]
    assert (conformer.width, conformer.layers, conformer.heads, conformer.kernel, conformer.pooling) == (144, 4, 4, 31, "class_token")
    assert (aasist.graph_widths, aasist.encoder_widths) == ((64, 32), (32, 32, 64, 64, 64, 64))
    assert tracer.copies_are_sources is False


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (
            of_wavespec(augmentation={"bands": 5}),
            "detector.members.wavespec.augmentation.bands: is no setting any more: the published value stands in the code; remove the key",
        ),
        ({"doctor": {"max_auc": 0.7}}, "doctor.max_auc: is no setting any more: its bound stands in doctor/bounds.py; remove the key"),
        ({"download": {"piece_mb": 8}}, "download.piece_mb: is no setting any more"),
        (of_wavespec(training={"made_share": 0.1}), "detector.members.wavespec.training.made_share: is called copy_share now"),
        ({"tracer": {"made_sources": True}}, "tracer.made_sources: is called copies_are_sources now"),
        ({"tracer": {"training": {"made_share": 0.1}}}, "tracer.training.made_share: is called copy_share now"),
        ({"tracer": {"members": {"refd": {"kind": "refd"}}}}, "tracer.members.refd: kind refd is called aasist now"),
        (
            {"tracer": {"members": {"a": {"kind": "aasist", "temperatures": [2, 2, 100, 100]}}}},
            "tracer.members.a.temperatures: is no setting any more: the published value stands in the code; remove the key",
        ),
    ],
)
def test_a_params_file_of_the_first_layout_is_told_what_to_change_key_by_key(content, said):
    assert explain(content).startswith(f"own.yaml: {said}")


def test_sections_of_the_first_layout_are_told_where_they_stand_now():
    for old, new in (("wavespec", f"{WAVESPEC}.network"), ("loss", f"{WAVESPEC}.loss"), ("training", f"{WAVESPEC}.training")):
        assert explain({old: {"epochs": 3}}) == f"own.yaml: {old}: is called {new} now"


def test_a_member_has_a_name_that_names_a_file_and_a_kind():
    for name in ("r.1", "a/b", "conditions"):
        assert f"{name!r} names no file" in explain({"detector": {"members": {name: {"network": {"kind": "resnet"}}}}})
        assert f"{name!r} names no file" in explain({"tracer": {"members": {name: {"kind": "resnet"}}}})
    assert "mine lacks network.kind: wavespec, resnet" in explain({"detector": {"members": {"mine": {"training": {"epochs": 3}}}}})


def test_what_a_detector_s_network_reads_is_no_front_end():
    assert "network.reads front_end is the tracer's" in explain(of_wavespec(network={"kind": "resnet", "reads": "front_end"}))
    assert "reads cqt, linear or lfcc" in explain(of_wavespec(network={"kind": "conformer"}))


def test_an_unknown_member_corpus_or_copy_names_those_there_are():
    assert "'aasist', 'conformer', 'resnet', 'lfcc_gmm'" in explain({"tracer": {"members": {"own": {"kind": "lstm"}}}})
    assert "'wavespec', 'resnet', 'aasist', 'conformer', 'lfcc_gmm'" in explain(of_wavespec(network={"kind": "lstm"}))
    assert "'asvspoof2019_la'" in explain({"corpora": [{"adapter": "asvspoof2019"}]})
    assert "'griffin_lim_mel'" in explain({"copysynthesis": {"known": ["hifigan"]}})


def test_the_params_file_loads():
    assert params.load(ROOT / "params.yaml").seed == 688
    assert len((ROOT / "params.yaml").read_text().splitlines()) <= 75


def run_command(monkeypatch, *arguments: str, code: int = 0) -> None:
    monkeypatch.setattr(sys, "argv", ["earmark", "params", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == code


def test_the_command_prints_all_of_every_setting_however_narrow_the_terminal(monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("COLUMNS", "60")
    run_command(monkeypatch, "--set", "cqt.bins=60")
    printed = " ".join(capsys.readouterr().out.split())
    for key, value, provenance, description in params.describe(params.load(ROOT / "params.yaml", assignments=["cqt.bins=60"])):
        assert f"{key} = {params.spell(value)} [{provenance}] {' '.join(description.split())}" in printed


def test_where_there_is_no_params_file_the_command_starts_from_built_in_values(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    run_command(monkeypatch, "--set", "seed=3", "-o", "params.yaml")
    assert params.load(tmp_path / "params.yaml") == params.Params(seed=3)
    run_command(monkeypatch, "--params", "other.yaml", code=2)
    assert "other.yaml: no such file" in capsys.readouterr().err


def test_a_preset_that_is_not_there_is_answered_with_those_that_are(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    run_command(monkeypatch, "--preset", "smal", code=2)
    assert "--preset smal: presets/ holds paper, paper-tracing, small" in capsys.readouterr().err
    monkeypatch.chdir(tmp_path)
    run_command(monkeypatch, "--preset", "small", code=2)
    assert "no folder presets/ here" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("seed: 1\ntrials: {seed: 2}\nseed: 2\n", "the key seed stands twice, in lines 1 and 3: keep one"),
        ("training:\n  lr: 0.1\n  epochs: 3\n  lr: 0.2\n", "the key lr stands twice, in lines 2 and 4"),
        ("corpora:\n- {adapter: folder, root: a, root: b}\n", "the key root stands twice, in lines 2 and 2"),
        ('"seed": 1\nseed: 1\n', "the key seed stands twice, in lines 1 and 2"),
    ],
)
def test_a_key_that_stands_twice_is_named_with_its_lines(tmp_path, text, said):
    path = tmp_path / "params.yaml"
    path.write_text(text)
    for layers in ([path], [None, [path]]):
        with pytest.raises(InputError, match=rf"params\.yaml: {said}"):
            params.load(*layers)
    with pytest.raises(InputError, match=r"--set trials=.*: the key seed stands twice"):
        params.load(None, assignments=["trials={seed: 1, seed: 2}"])


def test_keys_of_anchors_may_be_written_anew_and_marks_say_the_encoding(tmp_path):
    path = tmp_path / "params.yaml"
    path.write_bytes(
        "detector: {members: {wavespec: {training: &t {epochs: 3, lr: 0.1}}}}\r\ntracer: {training: {<<: *t, epochs: 4}}\r\n".encode(
            "utf-16"
        )
    )
    found = params.load(path)
    own = found.detector.members["wavespec"].training
    assert (own.epochs, found.tracer.training.epochs, found.tracer.training.lr) == (3, 4, 0.1)
