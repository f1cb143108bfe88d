# Turnout in a container: no root, no file written outside /var/lib/turnout, no shell in any command.
#
#   docker build -t turnout .                      gateway, control, serve
#   docker build -t turnout-demo --target demo .   with scikit-learn too: `turnout demo` and the models of compose.yaml
#
# The base is pinned by version. Pin it by digest where you build for others: the digest cannot be looked up where this
# repository is tested, and a wrong one would be worse than none.
#   docker buildx imagetools inspect python:3.13.9-slim-bookworm
#   docker build --build-arg PYTHON=3.13.9-slim-bookworm@sha256:...
ARG PYTHON=3.13.9-slim-bookworm

FROM python:${PYTHON} AS demo-files
WORKDIR /src
COPY requirements.lock ./
# The locks hold a hash of every file. pip of the base fills the environment, so none stays in it.
RUN python -m venv --without-pip /opt/turnout \
    && python -m pip --python /opt/turnout/bin/python install --no-cache-dir --no-deps --require-hashes -r requirements.lock
COPY pyproject.toml README.md LICENSE ./
COPY router ./router
COPY model_adapters ./model_adapters
COPY rollout_policies ./rollout_policies
RUN python -m pip --python /opt/turnout/bin/python install --no-cache-dir --no-deps --no-build-isolation . \
    && python -m pip --python /opt/turnout/bin/python uninstall --yes editables hatchling pathspec pluggy trove-classifiers

FROM demo-files AS files
RUN python -m pip --python /opt/turnout/bin/python uninstall --yes scikit-learn joblib narwhals threadpoolctl

FROM python:${PYTHON} AS bare
RUN groupadd --gid 65532 turnout \
    && useradd --uid 65532 --gid 65532 --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin turnout \
    && install --directory --owner=turnout --group=turnout --mode=0700 /var/lib/turnout
# Compiled when it was installed; where nothing can be written, nothing should be tried.
ENV PATH=/opt/turnout/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    TURNOUT_STORE__DIRECTORY=/var/lib/turnout
# turnout.yaml is looked for here.
WORKDIR /etc/turnout
USER 65532:65532
EXPOSE 8080 8081 8082
STOPSIGNAL SIGTERM
# Of `serve` and `gateway`; `control` has its own at 8081.
HEALTHCHECK --interval=10s --timeout=3s --start-period=30s \
    CMD ["python", "-IS", "-c", "from urllib.request import urlopen; urlopen('http://127.0.0.1:8082/healthz', timeout=2)"]
ENTRYPOINT ["turnout"]
CMD ["serve"]

FROM bare AS demo
COPY --from=demo-files /opt/turnout /opt/turnout

FROM bare AS turnout
COPY --from=files /opt/turnout /opt/turnout
