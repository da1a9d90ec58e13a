"""Settings of downloads: what is fetched where, and how patiently."""

from pathlib import PurePosixPath

from pydantic import field_validator

from earmark.params.section import Section, setting


class DownloadParams(Section):
    """Corpora and weights that are fetched before anything else, and the bounds of fetching and unpacking."""

    sources: dict[str, str] = setting(
        {}, "ours", "folder below data/ → a name of `earmark download --list`, https://…, s3://…, hf://…, dvc://…, or a folder or file"
    )
    connections: int = setting(8, "ours", "transfers at the same time", ge=1, le=64)
    retries: int = setting(6, "ours", "failures in a row of one file, without a byte between them, after which a download gives up", ge=0)
    timeout_seconds: float = setting(60, "ours", "longest wait for a connection, or for the next bytes", gt=0)
    max_unpacked_gb: float = setting(500, "ours", "largest content of one archive, in GB", gt=0)
    max_ratio: float = setting(200, "ours", "largest content of one archive, in times its packed size", ge=1)

    @field_validator("sources")
    @classmethod
    def _inside(cls, sources: dict[str, str]) -> dict[str, str]:
        places = {name: PurePosixPath(name) for name in sources}
        for name, place in places.items():
            if place.is_absolute() or ".." in place.parts or not place.parts:
                raise ValueError(f"{name!r} must name a folder below data/")
            for other in places.values():
                if other in place.parents:
                    raise ValueError(f"{name!r} lies inside {str(other)!r}: give each source a folder of its own")
        return sources
