"""kfp's local runner of containers, mended: a step that failed is a failure.

kfp 2.17 lets the engine remove a container the moment it ends and takes one that has vanished for a success (kubeflow/pipelines#13332).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import docker
import pytest
from kfp.local import docker_task_handler

KILLED = 137  # 128 + SIGKILL


def run_docker_container(client: docker.DockerClient, image: str, command: list[str], volumes: dict[str, Any], **options) -> int:
    """Create, start, wait, remove; the exit code is the container's own. Errors: RuntimeError when the image is not here."""
    options.pop("auto_remove", None)
    image = docker_task_handler.add_latest_tag_if_not_present(image)
    try:
        client.images.get(image)
    except docker.errors.ImageNotFound as error:
        raise RuntimeError(f"there is no image {image} on this engine: build it with `make image IMAGE={image}`, or pull it") from error
    container = client.containers.create(image=image, command=command, volumes=volumes, **options)
    try:
        container.start()
        for line in container.logs(stream=True, follow=True):
            print(line.decode(errors="replace"), end="")
        code = container.wait()["StatusCode"]
        if code:
            print(_reason(code, options.get("mem_limit")))
        return code
    finally:
        container.remove(force=True)


def _reason(code: int, memory: str | None) -> str:
    if code != KILLED:
        return f"the container ended with exit code {code}"
    hint = f"it may use {memory} of memory and probably needed more: give it more, or smaller batches" if memory else "somebody stopped it"
    return f"the container was killed (exit code {code}): {hint}"


@contextmanager
def mended() -> Iterator[None]:
    """kfp's DockerRunner with the fix."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(docker_task_handler, "run_docker_container", run_docker_container)
        yield
