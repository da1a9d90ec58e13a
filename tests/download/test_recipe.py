"""`earmark download` and the presets name the same folders."""

import re
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from download.test_archive import tar, zipped
from earmark import params as settings
from earmark.__main__ import app
from earmark.cli import download as command
from earmark.corpora.prepare import prepare
from earmark.download import plan as plans
from earmark.download.catalogue import Archive, Catalogue, File, Known, catalogue

ROOT = Path(__file__).resolve().parents[2]
LA, FLAC = "LA/ASVspoof2019_LA", b"fLaC"
DF_ROW = "LA_000{0} DF_E_200000{0} nocodec asvspoof A0{0} {1} notrim eval traditional_vocoder - - - -\n"
STUBS = {
    "LA.zip": zipped(
        {
            f"{LA}_cm_protocols/ASVspoof2019.LA.cm.{name}.txt": b"LA_1 LA_%b - - bonafide\n" % name[:1].encode()
            for name in ("train.trn", "dev.trl", "eval.trl")
        }
        | {f"{LA}_{split}/flac/LA_{split[0]}.flac": FLAC for split in ("train", "dev", "eval")}
    ),
    **{f"ASVspoof2021_DF_eval_part0{part}.tar.gz": tar({f"ASVspoof2021_DF_eval/flac/DF_E_200000{part}.flac": FLAC}) for part in range(4)},
    "DF-keys-full.tar.gz": tar(
        {"keys/DF/CM/trial_metadata.txt": "".join(DF_ROW.format(n, "bonafide" if n else "spoof") for n in range(4)).encode()}
    ),
    "release_in_the_wild.zip": zipped(
        {"release_in_the_wild/meta.csv": b"file,speaker,label\n0.wav,A B,bona-fide\n", "release_in_the_wild/0.wav": b"RIFF"}
    ),
    "mlaad4sourcetracing.zip": zipped(
        {f"{split}.csv": b"path,model_name\n./fake/en/Mars5/%b.wav,Mars5\n" % split.encode() for split in ("train", "dev", "eval")}
    ),
}
SPOOFS = {f"en/Mars5/{split}.wav": b"RIFF" for split in ("train", "dev", "eval")}  # below the hub's fake/


@pytest.fixture
def stubs(web, tmp_path, monkeypatch) -> None:
    """The registry as it is, at other addresses and without digests."""
    for name, content in SPOOFS.items():
        (tmp_path / "hub/fake" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "hub/fake" / name).write_bytes(content)

    def elsewhere(file: File) -> File:
        name = file.address.rpartition("/")[2]
        return File(address=web.put(name, STUBS[name]))

    def stub(known: Known) -> Known:
        archives = tuple(Archive(parts=tuple(map(elsewhere, one.parts)), into=one.into) for one in known.archives)
        folders = (str(tmp_path / "hub"),) if known.folders else ()
        return known.model_copy(update={"archives": archives, "folders": folders, "holds": dict.fromkeys(known.holds)})

    names = ("asvspoof2019_la", "asvspoof2021_df", "in_the_wild", "mlaad_source_tracing")
    found = Catalogue(corpora={name: stub(catalogue().corpora[name]) for name in names}, weights={})
    for module in (plans, command):
        monkeypatch.setattr(module, "catalogue", lambda: found)


def download(*names: str) -> None:
    done = CliRunner().invoke(app, ["download", *names], catch_exceptions=False)
    assert done.exit_code == 0, done.output


def test_what_is_downloaded_is_what_the_paper_preset_reads(stubs, tmp_path, monkeypatch):
    preset = yaml.safe_load((ROOT / "presets/paper.yaml").read_text())
    corpora = [settings.CorpusParams(**corpus) for corpus in preset["corpora"]]
    monkeypatch.chdir(tmp_path)
    download(*(corpus.adapter for corpus in corpora))
    table = prepare(corpora, seed=0, dev_fraction=0.1, eval_fraction=0.1)
    trials = table.groupby(["corpus", "split"]).size().to_dict()
    assert trials == {
        ("asvspoof2019_la", "train"): 1,
        ("asvspoof2019_la", "dev"): 1,
        ("asvspoof2021_df", "eval"): 4,
        ("in_the_wild", "eval"): 1,
    }
    assert all(Path(path).exists() for path in table["path"])


def test_what_is_downloaded_is_what_the_source_tracing_recipe_reads(stubs, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    download("mlaad_source_tracing")
    corpus = settings.CorpusParams(adapter="mlaad_source_tracing", root="data/mlaad_source_tracing")
    table = prepare([corpus], seed=0, dev_fraction=0.1, eval_fraction=0.1)
    assert sorted(table["split"]) == ["dev", "eval", "train"]
    assert all(Path(path).exists() for path in table["path"])


@pytest.mark.parametrize("page", ["docs/kubeflow.md", "presets/paper.yaml", "presets/paper-tracing.yaml"])
def test_every_page_names_the_folder_that_the_download_makes(page):
    named = re.findall(r"\{adapter: (\w+), root: data/([\w/]+)", (ROOT / page).read_text())
    assert named
    assert [place for _, place in named] == [adapter for adapter, _ in named]
