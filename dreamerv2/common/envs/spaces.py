"""What observations and actions look like, independent of any environment library.

Gymnasium spaces are translated to these specs when an environment is built. A space that has no
faithful translation is refused with one sentence instead of being ignored.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from dreamerv2.common.errors import UserError

RESERVED = ("reward", "action", "is_first", "is_last", "is_terminal")
KINDS = ("discrete", "multi_discrete", "continuous")

# Some environments write the largest float32 where they mean infinity.
UNBOUNDED = 1e30


# Longest vector that a space may become; beyond it, something else was meant.
LONGEST = 1 << 20


class EnvError(RuntimeError):
    """An environment broke its promises, raised an exception, or its process died.

    The message is a sentence and, on the lines below it, the traceback of the environment's own
    exception if there was one.
    """

    @property
    def sentence(self) -> str:
        """The message without traceback."""
        return str(self).partition("\n")[0]


@dataclasses.dataclass(frozen=True)
class ObsSpec:
    """One observation key.

    Attributes:
      shape: Shape of one observation, without a batch dimension: `(H, W, C)` for images, `(n,)`
        for vectors; keys starting with `log_` may also be scalars, `()`.
      dtype: `uint8` for images, `float32` for everything else.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @property
    def is_image(self) -> bool:
        """Whether this is an image, `(H, W, C)` of `uint8`."""
        return self.dtype == np.uint8


@dataclasses.dataclass(frozen=True)
class ActSpec:
    """The flat `float32` action vector that replay, networks and policies use.

    Discrete actions are one-hot, several discrete actions are concatenated one-hots, continuous
    actions are values in [-1, 1].

    Attributes:
      kind: `discrete`, `multi_discrete` or `continuous`.
      sizes: Lengths of the parts of the vector: `(n,)`, `(n1, n2, ...)` or `(dim,)`.
      shape: Shape of one action as the environment takes it.
      start: Smallest value of every discrete action; empty means zeros.
      low: Lower bounds of the continuous action, flattened; empty means -1.
      high: Upper bounds, flattened; empty means 1.
      dtype: Type of what the environment takes.
    """

    kind: str
    sizes: tuple[int, ...]
    shape: tuple[int, ...] = ()
    start: tuple[int, ...] = ()
    low: tuple[float, ...] = ()
    high: tuple[float, ...] = ()
    dtype: str = "int64"

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"kind must be one of {KINDS}, not {self.kind!r}")

    @property
    def dim(self) -> int:
        """Length A of the action vector."""
        return sum(self.sizes)

    def sample(self, rng: np.random.Generator, n: int) -> np.ndarray:
        """Draw `n` uniformly random actions, `(n, A)` float32."""
        if self.kind == "continuous":
            return rng.uniform(-1.0, 1.0, (n, self.dim)).astype(np.float32)
        return self._one_hot(np.stack([rng.integers(size, size=n) for size in self.sizes], -1))

    def to_env(self, actions: np.ndarray) -> np.ndarray:
        """Convert action vectors to what a Gymnasium vector environment takes.

        One-hot parts go to the position of their largest value. Continuous values are clipped to
        [-1, 1] and rescaled to the bounds; a dimension without two finite bounds is passed
        through, clipped to the bound that it has.

        Args:
          actions: `(N, A)` float32.

        Returns:
          `(N, *shape)` of `dtype`.

        Raises:
          ValueError: If the actions do not have the shape `(N, A)`.
        """
        actions = np.asarray(actions)
        if actions.ndim != 2 or actions.shape[1] != self.dim:
            raise ValueError(
                f"actions must have the shape (N, {self.dim}) but have the shape {actions.shape}"
            )
        if self.kind == "continuous":
            values = self._rescale(actions)
        else:
            values = self._indices(actions) + np.asarray(self.start or [0] * len(self.sizes))
        return values.reshape((len(actions), *self.shape)).astype(self.dtype)

    def from_env(self, values: np.ndarray) -> np.ndarray:
        """Invert `to_env`: `(N, *shape)` environment actions to `(N, A)` float32 vectors."""
        values = np.asarray(values)
        flat = values.reshape((len(values), -1))
        if self.kind != "continuous":
            return self._one_hot(flat - np.asarray(self.start or [0] * len(self.sizes)))
        low, high, bounded = self._bounds()
        span = np.where(bounded & (high > low), high - low, 1.0)
        scaled = (flat - np.where(bounded, low, 0.0)) / span * 2.0 - 1.0
        return np.where(bounded, scaled, flat).astype(np.float32)

    def _bounds(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        low = np.asarray(self.low or [-1.0] * self.dim, np.float64)
        high = np.asarray(self.high or [1.0] * self.dim, np.float64)
        return low, high, (np.abs(low) < UNBOUNDED) & (np.abs(high) < UNBOUNDED)

    def _rescale(self, actions: np.ndarray) -> np.ndarray:
        low, high, bounded = self._bounds()
        unit = (np.clip(actions, -1.0, 1.0).astype(np.float64) + 1.0) / 2.0
        with np.errstate(invalid="ignore"):
            scaled = low * (1.0 - unit) + high * unit
        return np.clip(np.where(bounded, scaled, actions), low, high)

    def _indices(self, actions: np.ndarray) -> np.ndarray:
        parts = np.split(actions, np.cumsum(self.sizes)[:-1], axis=1)
        return np.stack([part.argmax(1) for part in parts], -1)

    def _one_hot(self, indices: np.ndarray) -> np.ndarray:
        return one_hot(indices, self.sizes)


def one_hot(indices: np.ndarray, sizes: tuple[int, ...]) -> np.ndarray:
    """Concatenate one-hot vectors: `(N, len(sizes))` integers to `(N, sum(sizes))` float32."""
    offsets = np.cumsum([0, *sizes[:-1]])
    out = np.zeros((len(indices), sum(sizes)), np.float32)
    np.put_along_axis(out, indices.astype(np.int64) + offsets, 1.0, axis=1)
    return out


def act_spec(space: Any, name: str) -> ActSpec:
    """Translate a Gymnasium action space.

    Args:
      space: Discrete, MultiDiscrete, MultiBinary or a Box of floats, of any shape.
      name: Task name, for the error.

    Raises:
      UserError: For any other space, and for one that is empty or too large for a vector.
    """
    from gymnasium import spaces

    if isinstance(space, spaces.Discrete):
        spec = ActSpec("discrete", (int(space.n),), start=(int(space.start),))
    elif isinstance(space, spaces.MultiDiscrete):
        spec = ActSpec(
            "multi_discrete",
            tuple(int(n) for n in space.nvec.flatten()),
            shape=space.nvec.shape,
            start=tuple(int(s) for s in space.start.flatten()),
        )
    elif isinstance(space, spaces.MultiBinary):
        size = int(np.prod(space.shape))
        spec = ActSpec("multi_discrete", (2,) * size, shape=space.shape, dtype="int8")
    elif isinstance(space, spaces.Box) and np.issubdtype(space.dtype, np.floating):
        spec = ActSpec(
            "continuous",
            (int(np.prod(space.shape)),),
            shape=space.shape,
            low=tuple(space.low.flatten().tolist()),
            high=tuple(space.high.flatten().tolist()),
            dtype=str(space.dtype),
        )
    else:
        raise UserError(
            f"the environment {name!r} has the action space {space}, which is not supported: "
            "wrap the environment so that it takes Discrete, MultiDiscrete, MultiBinary or a Box "
            "of floats"
        )
    check_size(spec.dim, space, name)
    return spec


def check_size(size: int, space: Any, name: str) -> None:
    """Refuse a space that becomes a vector of no elements or of more than `LONGEST`.

    Raises:
      UserError: It is such a space.
    """
    if not 0 < size <= LONGEST:
        raise UserError(
            f"the environment {name!r} has a space that becomes a vector of {size:,} numbers "
            f"({str(space)[:100]}): wrap the environment so that there are 1 to {LONGEST:,}"
        )
