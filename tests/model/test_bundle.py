import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from earmark import InputError, stages
from earmark.features.recording import WHOLE, open_recordings
from earmark.model import bundle, provenance
from earmark.model.manifest import MANIFEST, read_manifest
from earmark.model.system import Heard
from earmark.scoring.windows import ORIENTATION
from earmark.storage.files import read_table, write_json

MODEL = stages.ARTIFACTS["model"]


@pytest.fixture(scope="module")
def system(done, tiny):
    return bundle.load(done / MODEL, tiny.compute)[0]


@pytest.fixture
def copy(done, tmp_path) -> Path:
    return Path(shutil.copytree(done / MODEL, tmp_path / "model"))


def mend(folder: Path, **changes) -> None:
    """Write other values into the manifest."""
    write_json(folder / MANIFEST, json.loads((folder / MANIFEST).read_text()) | changes)


def test_a_file_gets_the_score_and_the_answer_that_the_stages_gave_it(done, system, protocol):
    scores = read_table(done / stages.ARTIFACTS["answers"] / "scores.parquet").set_index("utterance_id")
    answers = read_table(done / stages.ARTIFACTS["answers"] / "answers.parquet").set_index("utterance_id")
    rows = protocol[protocol["split"] != "train"].set_index("utterance_id")
    traced = 0
    for name, path in rows["path"].items():
        with open_recordings(Path(path), system.params.decoding, system.params.audio, system.transform) as opened:
            (recording,) = opened.recordings
            heard = system.hear(recording)
            assert heard.cm_score == pytest.approx(scores.at[name, "cm_score"], abs=1e-4)
            np.testing.assert_allclose(heard.embedding, scores.at[name, "embedding"], atol=1e-3)
            assert len(heard.starts) == scores.at[name, "windows"]
            if name in answers.index:
                traced += 1
                everything = np.ones(len(heard.starts), bool)
                whole = system.stretches(heard, everything, int(recording.index.at[WHOLE, "samples"]))
                answer = system.trace(recording, whole)
                np.testing.assert_allclose(answer.posterior[0], answers.at[name, "posterior"], atol=1e-3)
                assert answer.ood_score[0] == pytest.approx(answers.at[name, "ood_score"], rel=1e-3, abs=1e-3)
    assert traced == len(answers) > 5


def test_the_manifest_says_what_the_model_is_made_of(done, tiny, protocol):
    manifest = read_manifest(done / MODEL)
    assert manifest["schema"] == bundle.SCHEMA
    assert manifest["orientation"]["cm_score"] == ORIENTATION
    assert manifest["sources"] == ["engine0", "engine1"]
    assert set(manifest["files"]) == {
        *("detector/detection.json", "detector/conditions.safetensors", "tracer/ensemble.safetensors"),
        *(f"detector/{name}.safetensors" for name in tiny.detector.members),
        *(f"tracer/{name}.safetensors" for name in tiny.tracer.members),
    }
    (corpus,) = manifest["corpora"]
    assert (corpus["name"], corpus["adapter"], corpus["licence"]) == ("tiny", "folder", None)
    assert corpus["trials"] == protocol["split"].value_counts().to_dict()
    assert len(manifest["digest"]) == 64
    assert manifest["code"]["version"]


def test_the_calibration_is_fitted_on_dev_alone(done, system, protocol):
    scores = read_table(done / stages.ARTIFACTS["answers"] / "scores.parquet").merge(protocol, on="utterance_id")
    dev = scores[scores["split"] == "dev"]
    own = bundle.Calibration.fit(dev["cm_score"], dev["lowest"], dev["key"] == "bonafide", system.params.verdict.max_error)
    assert own == system.calibration


@pytest.mark.parametrize("damage", ["changed", "lacking", "surplus"])
def test_a_file_that_is_not_as_packaged_is_refused(copy, tiny, damage):
    path = copy / "tracer/aasist.safetensors"
    if damage == "changed":
        content = bytearray(path.read_bytes())
        content[-1] ^= 1
        path.write_bytes(content)
    elif damage == "lacking":
        path.unlink()
    else:
        path = copy / "tracer/other.pkl"
        path.write_bytes(b"x")
    with pytest.raises(InputError, match=f"{path.relative_to(copy)}: not as packaged"):
        bundle.load(copy, tiny.compute)


def test_scores_that_have_changed_or_turned_round_are_refused(copy, tiny, monkeypatch):
    manifest = json.loads((copy / MANIFEST).read_text())
    mend(copy, self_test=manifest["self_test"] | {"cm_score": manifest["self_test"]["cm_score"] + 0.5})
    with pytest.raises(InputError, match=r"self-test: cm_score is .*, should be .*: this version scores otherwise"):
        bundle.load(copy, tiny.compute)
    mend(copy, self_test=manifest["self_test"])
    bundle.load(copy, tiny.compute)
    logits = bundle.known_answer(bundle.load(copy, tiny.compute)[0])["logits"]
    mend(copy, self_test=manifest["self_test"] | {"logits": logits[::-1]})
    with pytest.raises(InputError, match="self-test: logits"):
        bundle.load(copy, tiny.compute)
    mend(copy, self_test=manifest["self_test"], orientation=manifest["orientation"] | {"cm_score": "cm_score: higher = more spoofed"})
    with pytest.raises(InputError, match="point another way"):
        bundle.load(copy, tiny.compute)


def test_a_model_of_an_earlier_schema_is_to_be_packaged_again(copy, tiny):
    mend(copy, schema=bundle.SCHEMA - 1)
    with pytest.raises(InputError, match=f"schema {bundle.SCHEMA - 1}, of an earlier version of earmark: package the model again"):
        bundle.load(copy, tiny.compute)


def test_a_newer_schema_or_no_model_at_all_is_said(copy, tiny, tmp_path):
    mend(copy, schema=bundle.SCHEMA + 1)
    with pytest.raises(InputError, match=f"schema {bundle.SCHEMA + 1}, this version reads up to {bundle.SCHEMA}: upgrade"):
        bundle.load(copy, tiny.compute)
    with pytest.raises(InputError, match=r"is no model of earmark: it has no manifest\.json"):
        bundle.load(tmp_path, tiny.compute)
    (copy / MANIFEST).write_text("{")
    with pytest.raises(InputError, match="not readable"):
        bundle.load(copy, tiny.compute)


def test_without_members_nothing_is_traced(done, change, tmp_path):
    shutil.copytree(done, tmp_path, dirs_exist_ok=True)
    stages.run("package_model", change(tracer={"members": {}}), tmp_path)
    system, manifest = bundle.load(tmp_path / MODEL, change().compute)
    assert system.ensemble is None
    assert manifest["sources"] == []


def test_a_model_that_reads_wav2vec_carries_its_front_end(done, change, tmp_path):
    shutil.copytree(done, tmp_path, dirs_exist_ok=True)
    settings = change(
        front_end={"kind": "wav2vec2", "pretrained": None, "layer": 1, "hidden": 16, "heads": 2, "conv_width": 8},
        tracer={"members": {"lfcc_gmm": None, "aasist": None, "conformer": {"reads": "front_end"}}},
    )
    for name in ("precompute_front_end", "train_tracer", "embed_utterances", "fit_ensemble", "package_model"):
        stages.run(name, settings, tmp_path)
    assert bundle.ENCODER in read_manifest(tmp_path / MODEL)["files"]
    system, _ = bundle.load(tmp_path / MODEL, settings.compute)
    answers = read_table(tmp_path / stages.ARTIFACTS["answers"] / "answers.parquet").set_index("utterance_id")
    rows = read_table(tmp_path / stages.ARTIFACTS["protocol"]).set_index("utterance_id")
    name = answers.index[0]
    with open_recordings(Path(rows.at[name, "path"]), system.params.decoding, system.params.audio, system.transform) as opened:
        (recording,) = opened.recordings
        answer = system.trace(recording, [(0, int(recording.index.at[WHOLE, "samples"]))])
    np.testing.assert_allclose(answer.posterior[0], answers.at[name, "posterior"], atol=1e-3)


def test_licences_are_those_of_params_or_of_the_adapter(protocol, tiny):
    corpus = tiny.corpora[0]
    stated = corpus.model_copy(update={"licence": "CC0-1.0"})
    public = corpus.model_copy(update={"adapter": "mlaad"})
    assert [one["licence"] for one in provenance.corpora([corpus, stated, public], protocol)] == [None, "CC0-1.0", "CC-BY-NC-4.0"]
    other = protocol.assign(key="spoof")
    assert provenance.corpora([corpus], other)[0]["digest"] != provenance.corpora([corpus], protocol)[0]["digest"]


@pytest.mark.parametrize("seconds", [10, 25])
def test_sources_are_named_from_no_more_than_params_say_spread_over_all(system, seconds):
    verdict = system.params.verdict.model_copy(update={"trace_seconds": seconds})
    bounded = replace(system, params=system.params.model_copy(update={"verdict": verdict}))
    starts = np.arange(0, 60 * 16_000, 8_000)
    heard = Heard(starts, np.zeros(len(starts)), np.zeros(16), {})
    found = bounded.stretches(heard, np.ones(len(starts), bool), 61 * 16_000)
    assert sum(length for _, length in found) <= seconds * 16_000
    assert all(start % system.params.cqt.hop_samples == 0 for start, _ in found)
    assert found[0][0] == 0
    assert len(found) == seconds // 10
    two = (starts < 16_000) | (starts > 50 * 16_000)
    assert bounded.stretches(heard, two & (starts < 53 * 16_000), 61 * 16_000)[0] == (0, 24_000)
