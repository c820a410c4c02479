# anomalib-cxr on a CPU. For research. Not a medical device.
#
#   docker build --tag anomalib-cxr .
#   docker run --rm anomalib-cxr --help
#
# How to use it: docs/howto/container.md

# Stage 1: the wheel. The sources stay behind in this stage.
FROM python:3.11-slim AS build

WORKDIR /source
# The wheel leaves out what .gitignore names, as it does in a checkout.
COPY .gitignore LICENSE README.md pyproject.toml ./
COPY src src
COPY configs configs
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheels .

# Stage 2: the wheel and what it depends on.
FROM python:3.11-slim

# Where torch and torchvision come from. Empty: pip's default index, where they bring CUDA, several gigabytes that a CPU
# has no use for. To leave that out, set it to an index of CPU wheels:  --build-arg TORCH_INDEX_URL=...
ARG TORCH_INDEX_URL=""

# Both come from one index and in one step, since their binaries must match. The bounds are those of pyproject.toml:
# what satisfies them here is not replaced from another index in the next step.
RUN pip install --no-cache-dir ${TORCH_INDEX_URL:+--index-url "$TORCH_INDEX_URL"} "torch>=2.10" "torchvision>=0.25"

# `serve` is for the worklist page, `dicom` for `screen --dicom`.
COPY --from=build /wheels /wheels
RUN pip install --no-cache-dir "$(echo /wheels/*.whl)[serve,dicom]"

# A user without privileges. /data is writable for files that are not mounted; a new volume takes the owner of its folder.
RUN useradd --create-home --uid 1000 cxr \
    && chmod 755 /home/cxr \
    && install --directory --owner=cxr --group=cxr /data /data/worklist

# HOME, USER: also for `docker run --user`, whose user has neither a home folder nor a name, which MONAI asks for.
# HF_HUB_OFFLINE: no weights are fetched from the Hugging Face hub.
# MPLCONFIGDIR: Matplotlib's cache, in a place that each user can write to.
ENV HOME=/home/cxr \
    USER=cxr \
    HF_HUB_OFFLINE=1 \
    MPLCONFIGDIR=/tmp/matplotlib

USER cxr

# anomalib-cxr keeps OpenVINO and NNCF from sending usage data; this file does so for `anomalib` too, which imports OpenVINO
# first. It is written by hand, since the command for it, `opt_in_out --opt_out`, sends an event of its own.
RUN mkdir "$HOME/intel" && printf 0 > "$HOME/intel/openvino_telemetry"

WORKDIR /data

# The default port of `serve`. It listens on the container's own loopback unless --host and an account are given.
EXPOSE 8765

# Ends a command as Ctrl-C does. The first process of a container ignores SIGTERM unless it handles it.
STOPSIGNAL SIGINT

ENTRYPOINT ["anomalib-cxr"]
CMD ["--help"]
