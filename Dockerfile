# DreamerV2 on an NVIDIA GPU, or without one. The host needs the driver and the NVIDIA Container
# Toolkit; CUDA itself comes with the Python packages.
#
#   docker build -t dreamerv2 .                          # with CUDA
#   docker build -t dreamerv2 --build-arg EXTRA= .       # without, 2.9 GB
#   docker build -t dreamerv2 --build-arg EXTRA=[cuda,dmc] --build-arg SYSTEM="libegl1 libgl1" .
#                                                        # with images of DeepMind Control
#   docker run --rm --gpus all --user "$(id -u):$(id -g)" -v ~/logdir:/logdir dreamerv2 \
#     train --configs atari --logdir /logdir/atari_pong/dreamerv2/1
#
# How this was checked, where no Docker daemon was at hand: for EXTRA= every COPY and RUN below was
# done as it stands, in this order and as the user named, in a chroot with Ubuntu 24.04 (debootstrap,
# minbase) on x86-64. There `dreamerv2` trained for some steps on Atari and drew a figure, as the
# user of the image and as another one (--user), and no shared library was missing. Not checked: the
# base image itself (it was not pulled), installing the extra [cuda] (only its versions were
# resolved), and running on a GPU.

FROM nvidia/cuda:12.9.1-base-ubuntu24.04

# More packages of the system, by name.
ARG SYSTEM=
RUN apt-get update \
    && apt-get install --yes --no-install-recommends python3 python3-venv ${SYSTEM} \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --create-home --uid 10001 dreamer \
    && install --directory --owner=dreamer /logdir /opt/dreamerv2 /tmp/libraries /tmp/package

USER dreamer
# Caches go where any user may write, for --user.
ENV PATH=/opt/dreamerv2/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    MPLCONFIGDIR=/tmp/matplotlib

# The libraries are a layer of their own, which a change of the code leaves alone. Their list is in
# setup.py, so an empty package is installed to get them.
ARG EXTRA=[cuda]
WORKDIR /tmp/libraries
COPY --chown=dreamer constraints.txt setup.py README.md LICENSE ./
COPY --chown=dreamer dreamerv2/__init__.py ./dreamerv2/
COPY --chown=dreamer scores/index.json ./scores/
RUN python3 -m venv /opt/dreamerv2 \
    && pip install --no-cache-dir --constraint constraints.txt ".${EXTRA}"

# The package: a few megabytes.
WORKDIR /tmp/package
COPY --chown=dreamer setup.py pyproject.toml README.md LICENSE ./
COPY --chown=dreamer dreamerv2 ./dreamerv2
COPY --chown=dreamer scores ./scores
RUN pip install --no-cache-dir --no-deps --force-reinstall .

# Away from the sources, so that the installed package is what runs.
WORKDIR /logdir
ENTRYPOINT ["dreamerv2"]
CMD ["--help"]
