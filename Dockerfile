# docker build -t dreamerv2 .                          CPU
# docker build -t dreamerv2 --build-arg EXTRA=[cuda] .  GPU; run with --gpus all
# docker run --rm -v ~/logdir:/logdir dreamerv2 --configs atari small --logdir /logdir/run

FROM python:3.12-slim

ARG EXTRA=""
ENV PYTHONUNBUFFERED=1

WORKDIR /app
COPY setup.py pyproject.toml MANIFEST.in README.md LICENSE ./
COPY dreamerv2 ./dreamerv2
COPY scores ./scores
RUN pip install --no-cache-dir ".${EXTRA}"

# Away from the sources, so that the installed package is what runs.
WORKDIR /
ENTRYPOINT ["python", "-m", "dreamerv2.train"]
