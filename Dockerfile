# evalkit on a processor:
#   docker build -t evalkit . && docker run --rm -v "$PWD:/work" --user "$(id -u):$(id -g)" evalkit reproduce smfnet-table1 --sample
# With an extra: docker build --build-arg EXTRAS=xlsx,cluster -t evalkit .
FROM python:3.12-slim AS build
ARG EXTRAS=""
# the compiler of the metrics' inner loops stays in this stage
# hadolint ignore=DL3008
RUN apt-get update && apt-get install -y --no-install-recommends gcc libc6-dev && rm -rf /var/lib/apt/lists/*
COPY . /source
RUN python -m venv /opt/evalkit \
 && /opt/evalkit/bin/pip install --no-cache-dir "/source${EXTRAS:+[$EXTRAS]}"

FROM python:3.12-slim
# what opencv-python's window code is linked with, though no window is opened
# hadolint ignore=DL3008
RUN apt-get update \
 && apt-get install -y --no-install-recommends libgl1 libglib2.0-0 \
 && rm -rf /var/lib/apt/lists/* \
 && useradd --create-home --uid 1000 evalkit
COPY --from=build /opt/evalkit /opt/evalkit
ENV PATH="/opt/evalkit/bin:$PATH" EVALKIT_CACHE=/tmp/evalkit MPLCONFIGDIR=/tmp/matplotlib
WORKDIR /work
USER 1000
ENTRYPOINT ["evalkit"]
CMD ["--help"]
