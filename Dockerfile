# The pipeline and the trainer in one image, CPU or CUDA:
#
#   docker build -t cleanerclip .                                                  what PyPI's torch brings (CUDA on x86-64)
#   docker build -t cleanerclip:cpu --build-arg TORCH_INDEX=URL .                  PyTorch's index of CPU wheels: a small image
#   docker run --rm -v "$PWD:/data" cleanerclip:cpu pipeline augment-captions captions.tsv --out cf
#   docker run --rm --gpus all -v "$PWD:/data" cleanerclip trainer evaluate --data imagenet/val --checkpoint run
FROM python:3.12-slim

ARG TORCH_INDEX=""
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PYTHONUNBUFFERED=1

WORKDIR /src
COPY pyproject.toml hatch_build.py constraints.txt README.md LICENSE NOTICE ./
COPY lexicons lexicons
COPY data_manifests data_manifests
COPY pipeline pipeline
COPY trainer trainer
RUN if [ -n "$TORCH_INDEX" ]; then PIP_INDEX_URL="$TORCH_INDEX" pip install torch torchvision; fi \
    && pip install -c constraints.txt '.[trainer,lexicons]' \
    && useradd --create-home user

# Nothing runs as root, and nothing but /data is written.
USER user
WORKDIR /data
CMD ["sh", "-c", "pipeline --help; trainer --help"]
