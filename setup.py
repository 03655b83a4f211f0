"""Installs DreamerV2: `pip install .`, or `make train`, which does it for you.

Tried on Linux x86-64: with each of these pairs the newest versions of everything else resolve,
TensorFlow Probability samples, the native vector environment of Atari steps and summaries are
written. Python 3.10 then gets Keras 3.12, the others get 3.15.

  Python 3.10 with TensorFlow 2.18
  Python 3.11 with TensorFlow 2.21
  Python 3.12 with TensorFlow 2.19, 2.20 and 2.21
  Python 3.13 with TensorFlow 2.21

The lower bounds below were tried together on Python 3.12 with TensorFlow 2.19. The versions that
the tests ran with are in constraints.txt, which `make constraints` writes; this installs the same:

    pip install --constraint constraints.txt .
"""

import pathlib
import re

import setuptools

HERE = pathlib.Path(__file__).resolve().parent


def read_version() -> str:
    """The version stated in the package, read without importing it."""
    text = (HERE / "dreamerv2" / "__init__.py").read_text(encoding="utf-8")
    match = re.search(r'^__version__ = "([^"]+)"$', text, re.MULTILINE)
    if not match:
        raise RuntimeError('dreamerv2/__init__.py has no line of the form __version__ = "1.2.3"')
    return match.group(1)


# Upper bounds only where a release is known to have broken its users, or, for TensorFlow, where
# the next minor release has not been tried.
INSTALL_REQUIRES = [
    "tensorflow>=2.18,<2.22",
    "tensorflow-probability>=0.25",
    "tf-keras>=2.18,<2.22",  # For tensorflow-probability; its own pin keeps it equal to TensorFlow.
    "keras>=3.5",
    "tensorboard>=2.18",  # tf.summary lives in it, and TensorFlow 2.21 no longer requires it.
    "numpy>=1.26",
    "gymnasium>=1.2",
    "ale-py>=0.12",  # The native vector environment of 0.11 crashes once TensorFlow is loaded.
    "opencv-python-headless>=4.9.0.80",
    "pillow>=10.1",
    "matplotlib>=3.8",
    "av>=13.1",  # Encodes MP4; its wheels hold all of ffmpeg that this needs.
    "rich>=13",
    "ruamel.yaml>=0.18",
]

# For the site of the documentation. mkdocs 2 drops the plug-ins that the site is made with.
DOCS_REQUIRE = ["mkdocs>=1.6,<2", "mkdocs-material>=9.5,<10"]

# Environments beyond Atari; `dreamerv2/common/envs/extras.py` names the same requirements in its
# errors. dm_control allows MuJoCo 4, with which it cannot load a model. One of its dependencies,
# labmaze, has no wheels for Python 3.13.
SUITES_REQUIRE = {
    "dmc": [
        "dm-control>=1.0.50; python_version < '3.13'",
        "mujoco>=3.17,<4; python_version < '3.13'",
    ],
    "crafter": ["crafter>=1.8.3"],
    "minigrid": ["minigrid>=3.0"],
}

# Runs sweeps on several machines; `dreamerv2/sweeps/ray_pool.py` names it in its error.
RAY_REQUIRE = ["ray>=2.40"]

EXTRAS_REQUIRE = {
    **SUITES_REQUIRE,
    "ray": RAY_REQUIRE,
    # NVIDIA's libraries as wheels; only the driver has to be there already.
    "cuda": ["tensorflow[and-cuda]>=2.18,<2.22"],
    "docs": DOCS_REQUIRE,
    "dev": [
        *DOCS_REQUIRE,
        *RAY_REQUIRE,  # 75 MB more to download, for the test on a cluster of two nodes.
        # So that the tests of the suites do not only skip: 150 MB more to download.
        *(requirement for suite in SUITES_REQUIRE.values() for requirement in suite),
        "hypothesis>=6.100",
        "import-linter>=2.3",
        "mypy>=1.15",
        "pytest>=8.3",
        "pytest-timeout>=2.3",
        "pytest-xdist>=3.6",
        "ruff>=0.15",
        "setuptools>=64",  # For the test that builds a wheel.
        "wheel>=0.43",
    ],
}

setuptools.setup(
    name="dreamerv2",
    version=read_version(),
    description="DreamerV2 in TensorFlow 2: mastering Atari with discrete world models",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    author="The DreamerV2 authors",
    license="MIT",
    license_files=["LICENSE"],
    python_requires=">=3.10,<3.14",
    # The score data lives at the root, where people look for it, and is installed in the package.
    packages=[*setuptools.find_packages(include=["dreamerv2", "dreamerv2.*"]), "dreamerv2.scores"],
    package_dir={"dreamerv2.scores": "scores"},
    package_data={
        "dreamerv2": ["configs.yaml", "py.typed", "play_page/*"],
        "dreamerv2.scores": ["*.json", "*.json.gz", "README.md", "LICENSE.*"],
    },
    include_package_data=False,
    zip_safe=False,
    install_requires=INSTALL_REQUIRES,
    extras_require=EXTRAS_REQUIRE,
    entry_points={"console_scripts": ["dreamerv2 = dreamerv2.cli:main"]},
    classifiers=[
        "Intended Audience :: Science/Research",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3",
        "Programming Language :: Python :: 3.10",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
    ],
)
