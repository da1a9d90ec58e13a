import logging
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from earmark import InputError, checkpoint
from earmark.ensemble import fit_ensemble, load
from earmark.files import read_table, write_table
from earmark.losses import mixed_cross_entropy, n_pair
from earmark.networks.tracer import Tracer
from earmark.params import AasistParams, ConformerParams, DispersionParams, EmphasisParams, Params, TracerParams
from earmark.stages import ARTIFACTS
from earmark.tracer import Dispersion, Emphasis, Rows, count_pairs, draw_batches, embed_all, train

MEMBERS = {
    "conformer": {"kind": "conformer", "width": 16, "layers": 1, "heads": 2, "kernel": 5},
    "refd": {"kind": "refd", "width": 18, "encoder_widths": [4, 8], "graph_widths": [8, 6]},
}
CONFORMER = ConformerParams(**MEMBERS["conformer"])
TINY = {"members": MEMBERS, "training": {"epochs": 3, "batch_size": 4, "lr": 5e-3, "halve_epochs": 2}}


def run(workspace: Path, tiny: Params, tracer: TracerParams) -> dict[str, float]:
    sections = tiny.seed, tiny.audio, tiny.cqt, tracer, tiny.compute
    places = workspace / ARTIFACTS["protocol"], workspace / ARTIFACTS["features"], workspace / "artifacts/tracer"
    return train(*sections, *places)


def tracer_params(**sections) -> TracerParams:
    return TracerParams.model_validate(TINY | sections)


def edit(workspace: Path, change) -> None:
    """Change the protocol of a workspace."""
    path = workspace / ARTIFACTS["protocol"]
    write_table(path, change(read_table(path)))


def test_both_members_are_trained_and_say_what_they_are(workspace, tiny):
    settings = tracer_params()
    metrics = run(workspace, tiny, settings)
    assert {name for name in metrics if name.endswith("dev/error")} == {"conformer/dev/error", "refd/dev/error"}
    for name in MEMBERS:
        tensors, meta = checkpoint.load(workspace / f"artifacts/tracer/{name}.safetensors")
        assert meta["sources"] == ["engine0", "engine1"]  # copies are no sources
        assert meta["member"]["kind"] == MEMBERS[name]["kind"]
        Tracer(tiny.cqt.bins, settings.members[name], 2).load_state_dict(tensors)
        history = pd.read_csv(workspace / f"artifacts/tracer/{name}.csv")
        assert {"cross_entropy", "regmixup", "n_pair", "dev/error"} <= set(history)
    assert {path.suffix for path in (workspace / "artifacts/tracer").iterdir()} == {".csv", ".safetensors"}
    assert len(list((workspace / "artifacts/tracer").iterdir())) == 4


def test_members_embed_and_an_ensemble_answers(workspace, tiny):
    settings = tracer_params()
    run(workspace, tiny, settings)
    protocol, embeddings = workspace / ARTIFACTS["protocol"], workspace / "artifacts/embeddings"
    places = protocol, workspace / ARTIFACTS["features"], workspace / "artifacts/tracer", embeddings
    embed_all(tiny.audio, tiny.cqt, settings, tiny.compute, *places)
    fit_ensemble(0.9, 0.95, tuple(MEMBERS), protocol, embeddings, workspace / "artifacts/ensemble")
    answers = read_table(workspace / "artifacts/ensemble/answers.parquet")
    table = read_table(protocol)
    spoofs = table[(table["key"] == "spoof") & ~table["made"] & (table["split"] != "train")]
    assert set(answers["utterance_id"]) == set(spoofs["utterance_id"])
    assert set(answers["source"]) <= {"engine0", "engine1"}
    assert np.isfinite(answers["ood_score"]).all()
    assert load(workspace / "artifacts/ensemble/ensemble.safetensors").sources == ("engine0", "engine1")
    write_table(embeddings / "refd.parquet", read_table(embeddings / "refd.parquet"), sources='["engine0", "other"]')
    with pytest.raises(InputError, match=r"conformer and refd differ in sources \(engine1, other\)"):
        fit_ensemble(0.9, 0.95, tuple(MEMBERS), protocol, embeddings, workspace / "artifacts/ensemble")
    with pytest.raises(InputError, match=r"trained with cqt\.bins 84, params say 72"):
        embed_all(tiny.audio, tiny.cqt.model_copy(update={"bins": 72}), settings, tiny.compute, *places)


def test_copies_are_sources_where_that_is_asked_for(workspace, tiny):
    run(workspace, tiny, tracer_params(members={"conformer": MEMBERS["conformer"]}, made_sources=True))
    meta = checkpoint.load(workspace / "artifacts/tracer/conformer.safetensors")[1]
    assert meta["sources"] == ["codec_mp3", "engine0", "engine1"]


def test_without_emphasis_another_tracer_comes_out(workspace, tiny):
    one = {"members": {"conformer": MEMBERS["conformer"]}}
    run(workspace, tiny, tracer_params(**one))
    file = workspace / "artifacts/tracer/conformer.safetensors"
    before = file.read_bytes()
    run(workspace, tiny, tracer_params(**one))
    assert file.read_bytes() == before
    run(workspace, tiny, tracer_params(**one, emphasis={"enabled": False}))
    assert file.read_bytes() != before


def test_what_tracing_lacks_is_said(workspace, tiny):
    settings = tracer_params()
    whole = workspace / ARTIFACTS["protocol"]
    saved = whole.read_bytes()
    for change_, message in (
        (lambda table: table[(table["source"] != "engine1") | (table["split"] != "train")], "two sources in train, there is only engine0"),
        (lambda table: table[(table["split"] != "dev") | (table["key"] == "bonafide")], "dev has no utterance of a source of train"),
        (lambda table: table[(table["split"] != "train") | (table["key"] == "spoof")], "needs bona fide speech in train and dev"),
    ):
        edit(workspace, change_)
        with pytest.raises(InputError, match=message):
            run(workspace, tiny, settings)
        whole.write_bytes(saved)


def test_a_batch_begins_with_anchors_and_their_positives():
    labels = np.array([0, 0, 0, 1, 1, 2, 3, 3])
    batches = draw_batches(labels, 40, 8, 3, np.random.default_rng(0))
    for batch in batches:
        anchors, positives = batch[:3], batch[3:6]
        assert len(batch) == 8
        assert (labels[anchors] == labels[positives]).all()
        assert len(set(labels[anchors])) == 3
        assert not set(anchors) & set(positives)
    assert {label for batch in batches for label in labels[batch[:3]]} == {0, 1, 3}  # source 2 has one utterance
    plain = np.concatenate([batch[6:] for batch in batches])
    assert (np.bincount(plain[:8], minlength=8) == 1).all()


def test_sources_with_one_utterance_are_named(caplog):
    rows = Rows([str(n) for n in range(6)], np.array([0, 0, 1, 2, 2, 2]))
    with caplog.at_level(logging.WARNING):
        assert count_pairs(rows, ("a", "b", "c"), tracer_params(training={"batch_size": 6})) == 2
    assert "one utterance: b" in caplog.text
    assert count_pairs(rows, ("a", "b", "c"), tracer_params(dispersion={"n_pair": 0.0})) == 0


def test_dispersion_is_the_sum_of_its_parts_and_each_switch_has_an_effect():
    torch.manual_seed(0)
    features, labels = torch.randn(6, 20, 12), torch.tensor([0, 1, 0, 1, 1, 0])
    network = Tracer(12, CONFORMER.model_copy(update={"dropout": 0.0}), 2)
    parts = Dispersion(network, DispersionParams(regmixup=0.5, n_pair=2.0), 2)(features, labels)
    total = parts["cross_entropy"] + 0.5 * parts["regmixup"] + 2 * parts["n_pair"]
    assert parts["loss"].item() == pytest.approx(total.item(), rel=1e-6)
    embedding = network(features).embedding
    assert parts["n_pair"].item() == pytest.approx(n_pair(embedding[:2], embedding[2:4], 0.002).item(), rel=1e-5)
    plain = Dispersion(network, DispersionParams(regmixup=0.0, n_pair=0.0), 2)(features, labels)
    assert plain.keys() == {"loss", "cross_entropy"}
    assert "n_pair" not in Dispersion(network, DispersionParams(), 0)(features, labels)


def test_with_eta_1_and_nothing_mixed_regmixup_doubles_the_cross_entropy():
    logits, labels = torch.randn(5, 3), torch.tensor([0, 1, 2, 0, 1])
    plain = torch.nn.functional.cross_entropy(logits, labels)
    assert (plain + mixed_cross_entropy(logits, labels, labels, 0.3)).item() == pytest.approx(2 * plain.item(), rel=1e-6)


def test_emphasis_is_cross_entropy_and_weighed_one_class_softmax():
    torch.manual_seed(0)
    objective = Emphasis(Tracer(12, AasistParams(**MEMBERS["refd"]), 2).eval(), EmphasisParams(oc_softmax=3.0)).eval()
    parts = objective(torch.randn(4, 20, 12), torch.tensor([0, 1, 1, 0]))
    assert parts["loss"].item() == pytest.approx((parts["cross_entropy"] + 3 * parts["oc_softmax"]).item(), rel=1e-6)
    assert parts["oc_softmax"] > 0
