# An image for production. Both stages run scripts/bootstrap; nothing is installed in another way.
#
#   docker build --tag recorder .
#   docker run --network host --stop-timeout 40 --volume recorder:/var/lib/recorder \
#       --volume "$PWD/recorder.yaml:/etc/recorder/recorder.yaml:ro" recorder
#
# The host's network, because a call takes four UDP ports out of thousands, and because the addresses in SIP and SDP
# must be those that peers reach. The stop timeout leaves time to drain (sip.drain_timeout_s).

FROM debian:bookworm-slim AS build
ENV RECORDER_CACHE=/opt/recorder
WORKDIR /app
COPY scripts scripts
COPY pyproject.toml requirements-production.lock README.md LICENSE ./
COPY recorder recorder
RUN scripts/bootstrap --production

FROM debian:bookworm-slim
WORKDIR /app
COPY scripts/bootstrap scripts/bootstrap
RUN scripts/bootstrap --runtime-only && rm -rf build scripts /var/lib/apt/lists/* \
    && useradd --system --home-dir /var/lib/recorder recorder \
    && install --directory --owner recorder --group recorder /var/lib/recorder
COPY --from=build /opt/recorder /opt/recorder
COPY --from=build /app/.venv .venv
COPY config/recorder.yaml /etc/recorder/recorder.yaml
ENV RECORDER__RECORDING__FOLDER=/var/lib/recorder/recordings
VOLUME /var/lib/recorder
USER recorder
EXPOSE 5060/udp 5060/tcp 8080
HEALTHCHECK --start-period=10s CMD ["/app/.venv/bin/python", "-c", \
    "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8080/healthz', timeout=5)"]
ENTRYPOINT ["/app/.venv/bin/recorder", "serve", "--config", "/etc/recorder/recorder.yaml"]
