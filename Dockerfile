# The service as an image. Both stages install exactly what the locks name.
FROM python:3.13-slim AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
WORKDIR /src
COPY requirements.lock requirements-dev.lock ./
RUN python -m venv /opt/build && /opt/build/bin/pip install --require-hashes -r requirements-dev.lock
RUN python -m venv /opt/everspace && /opt/everspace/bin/pip install --require-hashes -r requirements.lock
COPY . .
RUN /opt/build/bin/python -m build --wheel --no-isolation --outdir /dist client \
    && /opt/build/bin/python -m build --wheel --no-isolation --outdir /dist . \
    && /opt/everspace/bin/pip install --no-deps --no-index /dist/*.whl

FROM python:3.13-slim
ENV PATH=/opt/everspace/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
RUN useradd --system --uid 10001 --home-dir /data --shell /usr/sbin/nologin everspace \
    && install -d -o everspace -g everspace -m 0700 /data
COPY --from=build /opt/everspace /opt/everspace
USER everspace
WORKDIR /data
VOLUME /data
EXPOSE 8765
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=5s --timeout=3s --start-period=30s --retries=5 \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8765/readyz', timeout=2)"]
ENTRYPOINT ["everspaced"]
CMD ["serve", "--data-dir", "/data", "--host", "0.0.0.0", "--port", "8765", "--allow-remote"]
