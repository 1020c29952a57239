# The service, as an image:
#
#     docker build -t onlineguard .
#     docker run --rm -p 127.0.0.1:8080:8080 -v onlineguard-state:/var/lib/onlineguard onlineguard
#
# Every setting is an environment variable, ONLINEGUARD_<NAME>; docs/service.md has the table.
# Behind a mirror of packages: --build-arg PIP_INDEX_URL=...

FROM python:3.12-slim AS build
ARG PIP_INDEX_URL
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python -m venv /opt/onlineguard
WORKDIR /source
COPY constraints.txt pyproject.toml README.md LICENSE ./
COPY onlineguard onlineguard
COPY service service
# The versions that were tested together; pip from 25.3 on wants those of the build backend named by themselves.
RUN PIP_CONSTRAINT=/source/constraints.txt PIP_BUILD_CONSTRAINT=/source/constraints.txt \
    /opt/onlineguard/bin/pip install '.[serve]' \
    && /opt/onlineguard/bin/python -m compileall -q /opt/onlineguard/lib

FROM python:3.12-slim
# The state's folder is made here, so that a new volume on it belongs to the user.
RUN useradd --system --uid 10001 --user-group --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin onlineguard \
    && install --directory --owner=onlineguard --group=onlineguard --mode=0700 /var/lib/onlineguard
COPY --from=build /opt/onlineguard /opt/onlineguard
COPY deploy/healthy.py /opt/onlineguard/healthy.py
# MPLCONFIGDIR: a place for a cache where the root is read-only.
ENV PATH=/opt/onlineguard/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    MPLCONFIGDIR=/tmp \
    ONLINEGUARD_HOST=0.0.0.0 \
    ONLINEGUARD_PORT=8080 \
    ONLINEGUARD_STATE=/var/lib/onlineguard
USER onlineguard
WORKDIR /var/lib/onlineguard
VOLUME /var/lib/onlineguard
EXPOSE 8080
# SIGTERM: requests under way are finished, and a last snapshot is written. Give it longer than ONLINEGUARD_GRACE.
STOPSIGNAL SIGTERM
# The first start makes a model if it is given none, and every start compiles.
HEALTHCHECK --interval=10s --timeout=5s --start-period=120s --retries=3 \
    CMD ["python", "/opt/onlineguard/healthy.py"]
ENTRYPOINT ["onlineguard"]
CMD ["serve"]
