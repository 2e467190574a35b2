# preftree in an image, for CPUs and NVIDIA GPUs; docs/containers.md says how to build and run it.
FROM python:3.12.12-slim-bookworm

# Both are needed at run time, too: Triton compiles with gcc what launches its kernels, preftree its AVX-512 operations
# with g++. Their versions are those of the Debian release above; its mirrors keep no older ones.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends gcc g++ libc6-dev \
    && rm -rf /var/lib/apt/lists/*

# The torch of pip's default index brings CUDA's libraries; only the driver is the host's. TORCH_INDEX: an index whose
# torch is for CPUs alone, a tenth of the size.
ARG TORCH=2.13.0
ARG TORCH_INDEX=
RUN pip install --no-cache-dir ${TORCH_INDEX:+--index-url "${TORCH_INDEX}"} "torch==${TORCH}"

WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY preftree/ preftree/
COPY engine/ engine/
COPY kernels/ kernels/
COPY labeling/ labeling/
ARG EXTRAS=remote,report,serve
RUN pip install --no-cache-dir ".[${EXTRAS}]"

# Compiled operations, the embedded model and downloads are kept in /cache.
ENV XDG_CACHE_HOME=/cache \
    HF_HOME=/cache/huggingface \
    TRITON_CACHE_DIR=/cache/triton \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility
RUN useradd --uid 1000 --create-home preftree && install --directory --owner=preftree --group=preftree /cache /data
VOLUME /cache
WORKDIR /data
# A number, so that Kubernetes sees that it is not root's.
USER 1000:1000
ENTRYPOINT ["preftree"]
CMD ["--help"]
