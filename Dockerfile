# Twinroom and nothing else: built with pip in one stage, run without it being needed in the next.
# The same pinned packages as everywhere (constraints.txt). A site that wants the very bytes of the base names its digest.
FROM python:3.11.14-slim-bookworm AS build

ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PYTHONDONTWRITEBYTECODE=1
RUN python -m venv /opt/venv
COPY pyproject.toml constraints.txt README.md LICENSE /opt/twinroom/
COPY controlroom.py /opt/twinroom/
COPY kernels /opt/twinroom/kernels
COPY cities /opt/twinroom/cities
COPY streams /opt/twinroom/streams
COPY agents /opt/twinroom/agents
COPY cluster /opt/twinroom/cluster
COPY dashboards /opt/twinroom/dashboards
COPY studies /opt/twinroom/studies
COPY benchmarks /opt/twinroom/benchmarks
WORKDIR /opt/twinroom
# Editable, as in a clone: the bundled cities lie beside the code that reads them.
RUN /opt/venv/bin/pip install -c constraints.txt -e '.[distributed]' \
    && /opt/venv/bin/pip uninstall --yes pip \
    && /opt/venv/bin/python -m compileall -q /opt/venv/lib /opt/twinroom

FROM python:3.11.14-slim-bookworm

# rasterio's wheel takes libexpat from the system, and the slim image has none.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends libexpat1 \
    && rm -rf /var/lib/apt/lists/* \
    && groupadd --system --gid 10001 twinroom \
    && useradd --system --uid 10001 --gid 10001 --no-create-home --home-dir /tmp --shell /usr/sbin/nologin twinroom \
    && install --directory --owner twinroom --group twinroom /var/cache/twinroom
COPY --from=build /opt/venv /opt/venv
COPY --from=build /opt/twinroom /opt/twinroom
# The root file system is read-only where this runs: what numba compiles goes to the volume with the prepared cities.
ENV PATH=/opt/venv/bin:$PATH \
    HOME=/tmp \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    TWINROOM_CACHE=/var/cache/twinroom \
    NUMBA_CACHE_DIR=/var/cache/twinroom/numba
VOLUME ["/var/cache/twinroom"]
USER 10001:10001
WORKDIR /tmp
# Health is asked by compose.yaml, which knows which process this is.
ENTRYPOINT ["twinroom"]
CMD ["--help"]
