# One image, three roles: workerjobs operator | worker | server.
#   docker build -t workerjobs:0.1.0 .
# Your own jobs: FROM this image, COPY your modules, and name them in WORKER_JOB_MODULES (docs/kubernetes.md).

# Any image with Python 3.11 to 3.13 as `python3`, its venv module and CA certificates.
ARG BASE=docker.io/library/python:3.12-slim

# --- the dependencies, a layer of their own: a change of the code does not fetch and store them again ---
FROM ${BASE} AS dependencies
# Optional dependencies to put in (pyproject.toml).
ARG EXTRAS=chain,operator,server,typed
# pip lives in a folder of its own, which stays behind here, as its cache does.
RUN python3 -m venv /opt/build && python3 -m venv --without-pip /opt/workerjobs
COPY pyproject.toml /src/
# The secret is for a pip.conf of your own, with an index and its credentials:
#   docker build --secret id=pip.conf,src=$HOME/.config/pip/pip.conf
# Bytecode is written now, as nothing can be later; but not for the Kubernetes client's generated classes: next to nothing
# imports them, and they would be 60 MB.
RUN --mount=type=secret,id=pip.conf,target=/etc/pip.conf \
    python3 -c "import sys, tomllib; project = tomllib.load(open('/src/pyproject.toml', 'rb'))['project']; \
extras = [name for name in sys.argv[1].split(',') if name]; \
print(*project['dependencies'], *(line for name in extras for line in project['optional-dependencies'][name]), sep='\n')" \
        "${EXTRAS}" > /src/requirements.txt \
    && /opt/build/bin/pip install --no-cache-dir --quiet "cyclonedx-bom>=7,<8" "hatchling>=1.27,<2" \
    && /opt/build/bin/pip --python /opt/workerjobs/bin/python install --no-cache-dir --no-compile --quiet \
        -r /src/requirements.txt \
    && /opt/workerjobs/bin/python -m compileall -q -x 'kubernetes/(aio/)?client/(api|models)/' \
        /opt/workerjobs/lib/python3*/site-packages

# --- WorkerJobs itself, below /added, and what is in all ---
FROM dependencies AS build
COPY README.md LICENSE /src/
COPY operator /src/operator
RUN /opt/build/bin/pip wheel --no-cache-dir --quiet --no-deps --no-build-isolation --wheel-dir /src/dist /src \
    && /opt/build/bin/pip --python /opt/workerjobs/bin/python install --no-cache-dir --no-index --quiet --no-deps \
        --root /added /src/dist/*.whl \
    && cp -a /added/opt/workerjobs/. /opt/workerjobs/ \
    && /opt/build/bin/cyclonedx-py environment --output-reproducible --of JSON \
        -o /added/opt/workerjobs/sbom.cdx.json /opt/workerjobs/bin/python

FROM ${BASE}
# A name for the user, since some libraries ask for it.
RUN echo 'workerjobs:x:10001:10001::/tmp:/usr/sbin/nologin' >> /etc/passwd \
    && echo 'workerjobs:x:10001:' >> /etc/group
COPY --from=dependencies /opt/workerjobs /opt/workerjobs
COPY --from=build /added/ /
ARG BASE
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="WorkerJobs" \
      org.opencontainers.image.description="Background jobs in Postgres, declared with kubectl, run in child processes" \
      org.opencontainers.image.source="https://github.com/quickdapp/workerjobs" \
      org.opencontainers.image.documentation="https://github.com/quickdapp/workerjobs/tree/main/docs" \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.base.name="${BASE}"
# HOME: a read-only root has no other place to write to than a mounted /tmp.
ENV PATH=/opt/workerjobs/bin:$PATH \
    HOME=/tmp \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1
# A number, so that runAsNonRoot can be checked.
USER 10001:10001
# Probes and metrics; the server.
EXPOSE 8090 8095
# Python is PID 1: the supervisor passes no signal on to its children, and reaps what they leave.
ENTRYPOINT ["workerjobs"]
CMD ["--help"]
