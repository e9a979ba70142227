# For CPUs. docs/install.md says how to build and run it.
FROM python:3.12-slim AS build

# One of the names of `uv pip install --torch-backend`; `cpu` is the small build without GPU libraries.
ARG TORCH_BACKEND=cpu
ARG EXTRAS=openvino,remote

RUN pip install --no-cache-dir uv==0.13.9
WORKDIR /source
COPY LICENSE README.md pyproject.toml ./
COPY src src
RUN python -m venv /opt/video_features \
    && uv pip install --no-cache --python /opt/video_features --torch-backend "$TORCH_BACKEND" ".[$EXTRAS]"

FROM python:3.12-slim

COPY --from=build /opt/video_features /opt/video_features
# Weights and converted networks. Every user may write there, as `docker run --user` chooses any.
RUN useradd --create-home --uid 1000 video && mkdir /cache /data && chmod 1777 /cache /data
ENV PATH="/opt/video_features/bin:$PATH" \
    XDG_CACHE_HOME=/cache \
    PYTHONUNBUFFERED=1
USER 1000:1000
VOLUME /cache
WORKDIR /data
ENTRYPOINT ["video-features"]
CMD ["--help"]
