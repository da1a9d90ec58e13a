"""Every number of a run: frozen sections, unknown keys refused, each default with where it comes from.

Provenance: "paper" said by the paper, "port" seen in an independent implementation or the closest relative, "ours" our own choice.
"""

from earmark.params.backends import AasistParams, BackendParams, ConformerParams, GmmParams, ResNetParams, View
from earmark.params.data import (
    Adapter,
    AudioParams,
    CopySynthesisParams,
    CopySystem,
    CorpusParams,
    CqtParams,
    ShardingParams,
    Split,
    TrialsParams,
)
from earmark.params.decoding import DecodingParams
from earmark.params.detector import (
    AugmentationParams,
    DetectorMemberParams,
    DetectorParams,
    EncoderParams,
    LossParams,
    NetworkParams,
    ScoringParams,
    SpectrogramParams,
    Wav2Vec2Params,
    WaveSpecParams,
)
from earmark.params.doctor import DoctorParams
from earmark.params.download import DownloadParams
from earmark.params.evaluation import EvaluationParams
from earmark.params.registry import AbsoluteParams, CalibrationParams, GateParams, TrackingParams
from earmark.params.robustness import RobustnessParams
from earmark.params.run import Params, describe, dump, dump_changes, load, parse, spell
from earmark.params.section import Section, setting
from earmark.params.strict import parse_yaml
from earmark.params.tracer import (
    CqtFrontEndParams,
    DispersionParams,
    EmphasisParams,
    EnsembleParams,
    FrontEndParams,
    MemberParams,
    TracerParams,
    Wav2Vec2FrontEndParams,
)
from earmark.params.training import ComputeParams, TrainingParams
from earmark.params.verdict import VerdictParams

__all__ = [
    "AasistParams",
    "AbsoluteParams",
    "Adapter",
    "AudioParams",
    "AugmentationParams",
    "BackendParams",
    "CalibrationParams",
    "ComputeParams",
    "ConformerParams",
    "CopySynthesisParams",
    "CopySystem",
    "CorpusParams",
    "CqtFrontEndParams",
    "CqtParams",
    "DecodingParams",
    "DetectorMemberParams",
    "DetectorParams",
    "DispersionParams",
    "DoctorParams",
    "DownloadParams",
    "EmphasisParams",
    "EncoderParams",
    "EnsembleParams",
    "EvaluationParams",
    "FrontEndParams",
    "GateParams",
    "GmmParams",
    "LossParams",
    "MemberParams",
    "NetworkParams",
    "Params",
    "ResNetParams",
    "RobustnessParams",
    "ScoringParams",
    "Section",
    "ShardingParams",
    "SpectrogramParams",
    "Split",
    "TracerParams",
    "TrackingParams",
    "TrainingParams",
    "TrialsParams",
    "VerdictParams",
    "View",
    "Wav2Vec2FrontEndParams",
    "Wav2Vec2Params",
    "WaveSpecParams",
    "describe",
    "dump",
    "dump_changes",
    "load",
    "parse",
    "parse_yaml",
    "setting",
    "spell",
]
