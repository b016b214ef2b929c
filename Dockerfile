# syntax=docker/dockerfile:1
# One image for every service; the command decides which one it is (see compose.yaml).

FROM python:3.13-slim AS packages
COPY requirements/image.txt /requirements.txt
RUN python -m venv /opt/podium \
    && /opt/podium/bin/pip install --no-cache-dir --require-hashes --only-binary :all: -r /requirements.txt

FROM python:3.13-slim
# Agents work in repositories: they need git, and the CA certificates to reach a model.
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates git openssh-client ripgrep \
    && rm -rf /var/lib/apt/lists/*
# A named volume takes the owner of the folder it covers, so each one is made here.
RUN useradd --uid 10001 --create-home podium \
    && for service in nats gateway runner indexer operator client; do \
         install -d -o podium -g podium -m 0700 "/run/podium/$service" "/var/lib/podium/$service"; done \
    && install -d -o podium -g podium -m 0755 /workspaces
COPY --from=packages /opt/podium /opt/podium
COPY podium /srv/podium/podium
COPY gateway /srv/podium/gateway
COPY runner /srv/podium/runner
COPY indexer /srv/podium/indexer
COPY deploy /srv/podium/deploy
RUN printf '#!/bin/sh\nexec python -m podium.cli "$@"\n' >/usr/local/bin/podium && chmod 0755 /usr/local/bin/podium
ENV PATH=/opt/podium/bin:$PATH \
    PYTHONPATH=/srv/podium \
    PYTHONSAFEPATH=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
WORKDIR /srv/podium
USER podium
STOPSIGNAL SIGTERM
CMD ["python", "-m", "podium.cli", "--help"]
