"""The model as one folder: weights, everything fitted, settings, and a manifest that says what each file is and what must come out.

`detector/` has its members, their fusion and what training sounded like, `tracer/` its members and their ensemble; manifest.json the
files' digests, orientations, calibration, settings, corpora and a known answer. The digest of the bundle is that of its manifest.
"""

import json
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from earmark import InputError
from earmark.ensemble import detection
from earmark.ensemble import fusion as tracing
from earmark.features.cqt import Cqt
from earmark.features.recording import Recording
from earmark.model import provenance
from earmark.model.calibration import Calibration
from earmark.model.familiarity import Conditions
from earmark.model.manifest import MANIFEST, SCHEMA, read_manifest
from earmark.model.system import System
from earmark.networks.compute import processor
from earmark.networks.detector import load_detector
from earmark.networks.wav2vec2 import TappedWav2Vec2, configuration
from earmark.params import ComputeParams, Params, Wav2Vec2FrontEndParams, parse
from earmark.scoring import front_end
from earmark.scoring.embedding import load_members
from earmark.scoring.windows import ORIENTATION as CM_ORIENTATION
from earmark.storage import checkpoint
from earmark.storage.files import complete, file_digest, read_table, write_json

DETECTOR, TRACER, CONDITIONS = "detector", "tracer", "detector/conditions.safetensors"
ENCODER = f"{TRACER}/front_end.safetensors"
ORIENTATIONS = {"cm_score": CM_ORIENTATION, "llr": "llr: higher = more bona fide", "ood_score": tracing.ORIENTATION}
TOLERANCE = 0.01  # relative and absolute, of a known answer: devices differ in the last bits, a flipped or exchanged score by far more
SECTIONS = ("seed", "decoding", "audio", "cqt", "detector", "front_end", "tracer", "scoring", "verdict")


def package_model(*, protocol: Path, detectors: Path, members: Path, answers: Path, output: Path, **sections: Any) -> dict[str, float]:
    """Calibrate on dev, gather all parts of the model below `output` and write the manifest; return what was fitted.

    `sections` are those of params that the model is made with.
    """
    params = Params(**sections)
    table = read_table(protocol).set_index("utterance_id")
    scored = read_table(answers / detection.SCORES).set_index("utterance_id")
    dev = scored.index[(table.loc[scored.index, "split"] == "dev").to_numpy()]
    key, most = table.loc[dev, "key"] == "bonafide", params.verdict.max_error
    calibration = Calibration.fit(scored.loc[dev, "cm_score"], scored.loc[dev, "lowest"], key, most)
    with complete(output) as aside:
        (aside / TRACER).mkdir(parents=True)
        (aside / DETECTOR).mkdir()
        for name in params.detector.members:
            shutil.copyfile(detectors / f"{name}.safetensors", aside / DETECTOR / f"{name}.safetensors")
        shutil.copyfile(answers / detection.FILE, aside / DETECTOR / detection.FILE)
        _save_conditions(aside / CONDITIONS, scored, table, params.verdict.unlike_quantile)
        if params.tracer.members:
            _copy_tracer(aside, params, members, answers)
        known = json.loads(params.model_dump_json())
        manifest: dict[str, Any] = {"schema": SCHEMA, "orientation": ORIENTATIONS, "calibration": asdict(calibration)}
        manifest |= {"params": {name: known[name] for name in SECTIONS}, "corpora": provenance.corpora(params.corpora, table.reset_index())}
        manifest |= {"code": provenance.code(), "files": digests(aside)}
        system = assemble(aside, manifest, params.compute)
        manifest |= {"sources": list(system.ensemble.sources) if system.ensemble else []}
        manifest |= {"self_test": {"passed": True, **known_answer(system)}}
        write_json(aside / MANIFEST, manifest)
    return asdict(calibration) | {"unlike_beyond": system.conditions.threshold}


def load(folder: Path, compute: ComputeParams) -> tuple[System, dict[str, Any]]:
    """The system and its manifest, with `digest`, the SHA-256 of the manifest.

    Errors: InputError when a file is missing, changed or surplus, the manifest is of a newer schema, an orientation is another,
    or the known answer does not come out.
    """
    manifest = read_manifest(folder)
    if manifest["files"] != (found := digests(folder)):
        wrong = sorted({*manifest["files"].items()} ^ {*found.items()})
        raise InputError(f"{folder}: {', '.join(dict.fromkeys(name for name, _ in wrong))}: not as packaged; fetch the model again")
    if manifest["orientation"] != ORIENTATIONS:
        raise InputError(f"{folder}: its scores point another way than this version's ({manifest['orientation']}): it must not be used")
    system = assemble(folder, manifest, compute)
    answer = known_answer(system)
    for name, stated in manifest["self_test"].items():
        if name != "passed" and not np.allclose(answer[name], stated, rtol=TOLERANCE, atol=TOLERANCE):
            version = f"it was packaged with earmark {manifest['code']['version']}"
            raise InputError(f"{folder}: self-test: {name} is {answer[name]}, should be {stated}: this version scores otherwise, {version}")
    return system, manifest


def digests(folder: Path) -> dict[str, str]:
    """SHA-256 of every file below the folder but the manifest."""
    found = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != MANIFEST)
    return {path.relative_to(folder).as_posix(): file_digest(path) for path in found}


def assemble(folder: Path, manifest: dict[str, Any], compute: ComputeParams) -> System:
    """Load all parts; nothing is checked."""
    params = parse(manifest["params"], str(folder / MANIFEST)).model_copy(update={"compute": compute})
    runner, transform = processor(compute), Cqt(params.cqt)
    detectors = {name: load_detector(folder / DETECTOR / f"{name}.safetensors")[0].to(runner.device) for name in params.detector.members}
    fused = detection.Fusion.load(folder / DETECTOR / detection.FILE)
    tensors, meta = checkpoint.load(folder / CONDITIONS)
    conditions = Conditions(tensors["means"].numpy(), tensors["precision"].numpy(), meta["threshold"])
    calibration = Calibration(**manifest["calibration"])
    encoder = _load_encoder(folder / ENCODER) if (folder / ENCODER).exists() else None
    sections = {"audio": params.audio, "cqt": params.cqt, "front_end": params.front_end}
    members, _ = load_members(params.tracer.members, sections, folder / TRACER)
    ensemble = tracing.load(folder / TRACER / tracing.FILE) if members else None
    return System(params, detectors, fused, calibration, conditions, members, ensemble, encoder, runner, transform)


def known_answer(system: System) -> dict[str, Any]:
    """What comes out for a sound that is made here: two clips of a gliding buzz in noise."""
    rng = np.random.default_rng(688)
    samples = 2 * system.params.audio.clip_samples
    phase = np.cumsum(120 + 40 * np.sin(np.arange(samples) / 5000)) * 2 * np.pi / 16_000
    sound = sum(np.sin(order * phase) / order for order in range(1, 30)) + 0.1 * rng.standard_normal(samples)
    recording = Recording(np.asarray(sound, np.float32), system.params.audio, system.transform)
    heard = system.hear(recording)
    answer = system.trace(recording, [(0, samples)])
    found = {"cm_score": heard.cm_score, "llr": float(system.calibration.llr(heard.cm_score))}
    found["distance"] = float(system.conditions.distance(heard.embedding[None])[0])
    if answer is not None:
        found |= {"logits": answer.logits[0].tolist(), "ood_score": float(answer.ood_score[0])}
    return found


def _save_conditions(path: Path, scored: pd.DataFrame, table: pd.DataFrame, quantile: float) -> None:
    rows, vectors = table.loc[scored.index], np.stack(scored["embedding"].to_list()).astype(np.float64)
    train, dev = ((rows["split"] == split).to_numpy() for split in ("train", "dev"))
    found = Conditions.fit(vectors[train], (rows["key"] == "bonafide").to_numpy(bool)[train], vectors[dev], quantile)
    checkpoint.save(path, {name: torch.from_numpy(getattr(found, name)) for name in ("means", "precision")}, {"threshold": found.threshold})


def _copy_tracer(folder: Path, params: Params, members: Path, answers: Path) -> None:
    for name in params.tracer.members:
        shutil.copyfile(members / f"{name}.safetensors", folder / TRACER / f"{name}.safetensors")
    shutil.copyfile(answers / tracing.FILE, folder / TRACER / tracing.FILE)
    if isinstance(params.front_end, Wav2Vec2FrontEndParams):
        described = {"encoder": configuration(params.front_end, params.front_end.layer), "layer": params.front_end.layer}
        checkpoint.save(folder / ENCODER, dict(front_end.load(params.front_end).state_dict()), described)


def _load_encoder(path: Path) -> TappedWav2Vec2:
    tensors, meta = checkpoint.load(path)
    encoder = TappedWav2Vec2(meta["encoder"], (meta["layer"],))
    encoder.load_state_dict(tensors, strict=True)
    return encoder.eval()
