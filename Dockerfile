# The service (workers, config) with the library and the examples. One image is every process: docker-compose.yml says which.
# For a build that can be repeated bit by bit, name the base by its digest: --build-arg PYTHON=python@sha256:…

ARG PYTHON=python:3.13-slim-bookworm

FROM ${PYTHON} AS builder
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
RUN python -m venv /opt/outbox
WORKDIR /build
# What is installed is what the lock names, by its hashes; it changes seldom, so this layer is kept.
COPY deploy/requirements.lock ./
RUN /opt/outbox/bin/pip install --require-hashes --only-binary :all: --requirement requirements.lock
COPY pyproject.toml README.md LICENSE ./
COPY outbox ./outbox
RUN /opt/outbox/bin/pip install --no-deps --no-build-isolation --no-index . \
    && /opt/outbox/bin/pip uninstall --yes hatchling pathspec pluggy trove-classifiers pip

FROM ${PYTHON}
RUN useradd --system --uid 10001 --user-group --home-dir /var/lib/outbox --create-home --shell /usr/sbin/nologin outbox
ENV PATH=/opt/outbox/bin:$PATH PYTHONPATH=/srv/outbox PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 \
    OUTBOX_DATA_DIR=/var/lib/outbox
COPY --from=builder /opt/outbox /opt/outbox
COPY config /srv/outbox/config
COPY workers /srv/outbox/workers
COPY examples /srv/outbox/examples
WORKDIR /srv/outbox
USER outbox
VOLUME /var/lib/outbox
HEALTHCHECK --interval=30s --timeout=20s --start-period=30s --retries=3 CMD ["python", "-m", "workers.health"]
STOPSIGNAL SIGTERM
# The whole service in one container, with an embedded broker and SQLite unless the environment says otherwise.
CMD ["python", "-m", "workers", "--console"]
