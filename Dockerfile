# One image for every component: the package and its locked dependencies; no tests, demo voices, compiler or cache.
# For a proxy with its own certificates or a mirror of the package index: --secret id=ca,src=bundle.crt, id=pip,src=pip.conf, id=uv,src=uv.toml
ARG BASE=docker.io/library/python:3.11-slim-bookworm

# uv, and the package alone in the environment's place. Of this stage the image gets the package; uv is mounted for a moment.
FROM ${BASE} AS tools
ARG UV_VERSION=0.13.8
ENV PIP_CERT=/etc/ssl/certs/ca-certificates.crt SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt VIRTUAL_ENV=/opt/earmark
RUN --mount=type=secret,id=ca,target=/etc/ssl/certs/ca-certificates.crt --mount=type=secret,id=pip,target=/etc/pip.conf \
    python3 -m pip install --no-cache-dir --root-user-action=ignore --target=/tools uv==${UV_VERSION}
COPY pyproject.toml README.md LICENSE /source/
COPY src /source/src
RUN --mount=type=secret,id=ca,target=/etc/ssl/certs/ca-certificates.crt --mount=type=secret,id=uv,target=/etc/uv/uv.toml \
    /tools/bin/uv venv --python python3 /opt/earmark \
    && /tools/bin/uv pip install --no-cache --no-deps --compile-bytecode /source \
    && rm /opt/earmark/.lock

FROM ${BASE}
# The caches of libraries go where the image is written to when its root is read-only.
ENV PATH=/opt/earmark/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    HOME=/scratch \
    TMPDIR=/scratch \
    XDG_CACHE_HOME=/scratch/.cache \
    MPLCONFIGDIR=/scratch/.cache/matplotlib \
    NUMBA_CACHE_DIR=/scratch/.cache/numba \
    HF_HOME=/scratch/.cache/huggingface \
    DVC_SITE_CACHE_DIR=/scratch/.cache/dvc \
    DVC_NO_ANALYTICS=1 \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility
# A login shell sets PATH anew (Kubeflow Trainer starts torchrun in one), so what is started by name is in /usr/local/bin too.
RUN useradd --uid 1000 --no-create-home --home-dir /scratch earmark \
    && install --directory --mode=1777 /scratch \
    && echo 'PATH=/opt/earmark/bin:$PATH' > /etc/profile.d/earmark.sh \
    && ln -s /opt/earmark/bin/earmark /opt/earmark/bin/torchrun /opt/earmark/bin/dvc /usr/local/bin/
COPY requirements-image.lock /usr/local/share/earmark/requirements.lock
# All of the lock in one layer, compiled: below a read-only root no start could keep what it compiles.
ARG UV_CACHE_DIR=/var/cache/uv
RUN --mount=type=bind,from=tools,source=/tools,target=/tools --mount=type=cache,target=/var/cache/uv \
    --mount=type=secret,id=ca,target=/etc/ssl/certs/ca-certificates.crt --mount=type=secret,id=uv,target=/etc/uv/uv.toml \
    export SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt UV_LINK_MODE=copy VIRTUAL_ENV=/opt/earmark TMPDIR=$(mktemp -d -p /tmp) \
    && /tools/bin/uv venv --python python3 /opt/earmark \
    && /tools/bin/uv pip sync --require-hashes --compile-bytecode /usr/local/share/earmark/requirements.lock \
    && rm -r /opt/earmark/.lock "$TMPDIR"
COPY --from=tools /opt/earmark /opt/earmark
USER 1000:1000
WORKDIR /scratch
# Nothing here serves, so there is no health to ask for later: the image is tried once, as its user.
RUN earmark --help > /dev/null && bash -lc 'torchrun --help' > /dev/null
CMD ["earmark", "--help"]

ARG VERSION=0
ARG COMMIT=unknown
ENV EARMARK_COMMIT=${COMMIT}
LABEL org.opencontainers.image.title="earmark" \
      org.opencontainers.image.description="Tells whether a recording of speech is bona fide or spoofed, and which system made the spoof" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${COMMIT}" \
      org.opencontainers.image.licenses="Apache-2.0"
