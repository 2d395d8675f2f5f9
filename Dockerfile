# The relay for any container host. It listens on RELAY_PORT, PORT or 8080, runs as nobody in particular, and keeps nothing in
# itself: the queue is RELAY_QUEUE_URL, a PostgreSQL database or a SQLite file on a mounted disk. Without it the relay starts and
# /readyz says 503, since a queue inside the container would be lost with it.

FROM python:3.13-slim AS build
WORKDIR /app
RUN python -m venv /opt/relay
COPY requirements.txt ./
RUN /opt/relay/bin/python -m pip install --no-cache-dir --require-hashes -r requirements.txt \
    && /opt/relay/bin/python -m pip uninstall --yes pip \
    && rm requirements.txt
COPY common common
COPY relay relay
RUN /opt/relay/bin/python -m compileall -q common relay && mkdir /data

FROM python:3.13-slim
COPY --from=build /opt/relay /opt/relay
COPY --from=build /app /app
# For a disk that takes its owner from here, as Docker's named volumes do.
COPY --from=build --chown=10001:10001 /data /data
ENV PATH=/opt/relay/bin:/usr/local/bin:/usr/bin:/bin PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 RELAY_LOG_JSON=true
WORKDIR /app
USER 10001:10001
EXPOSE 8080
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=5s --start-period=10s --retries=3 \
    CMD ["python", "-c", "import os, urllib.request as r; e = os.environ.get; r.urlopen(f\"http://127.0.0.1:{e('RELAY_PORT') or e('PORT') or 8080}/healthz\", timeout=4)"]
CMD ["python", "-m", "relay", "--host", "0.0.0.0"]
