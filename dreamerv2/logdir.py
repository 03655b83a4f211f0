"""The folder of a run: what it holds, who may write to it, whether it fits the configuration."""

from __future__ import annotations

import importlib.util
import pathlib
import re
import stat
from collections.abc import Mapping
from types import TracebackType

import numpy as np

from dreamerv2 import spaces_file
from dreamerv2.common import flags
from dreamerv2.common.config import Config
from dreamerv2.common.envs.spaces import ActSpec, ObsSpec
from dreamerv2.common.errors import UserError
from dreamerv2.common.lock import Lock, Locked
from dreamerv2.common.schema import show

CONFIGS = pathlib.Path(__file__).resolve().parent / "configs.yaml"

# What a run leaves behind that ended before it wrote its configuration, and files that people
# themselves redirect output to or that systems put everywhere.
_OURS = (
    r"lock|replay|checkpoint|evaluation|workers|metrics\.jsonl(\.tmp)?|events\.out\..*|spaces\.json"
)
_FOLDERS = ("replay", "checkpoint", "evaluation")
_TEMPORARY = (".config.yaml.*.tmp", ".spaces.json.*.tmp", "metrics.jsonl.tmp")
_HARMLESS = r"\..*|.*\.(log|txt|out|err)"

# A run goes on only with these as they were: what its replay consists of,
_DATA = r"task|action_repeat|render_size|atari_grayscale|atari_full_actions"
# and, once there are weights, how these are used.
_NETWORKS = (
    r"(rssm|encoder|decoder|reward_head|discount_head|actor|critic)\..*"
    r"|pred_discount|slow_target|(model|actor|critic)_opt\.opt"
)
# or, where there are networks for it, by exploration.
_EXPLORERS = r"expl_behavior|expl_head\..*|expl_opt\.opt|disag_(target|models|action_cond)"
_WITHOUT_NETWORKS = {"greedy", "Random"}

# Differences listed in an error.
_SHOWN = 12


def derive_seed(seed: int, *parts: int) -> int:
    """Return a seed for one purpose, so that no two purposes share random numbers."""
    return int(np.random.SeedSequence([seed, *parts]).generate_state(1)[0])


def load_config(path: pathlib.Path) -> Config:
    """Read the configuration of a run.

    Raises:
        UserError: There is no folder, or it holds no run.
    """
    if not path.is_dir():
        raise UserError(f"logdir {str(path)!r} is no folder; name the logdir of a training run.")
    if not (path / "config.yaml").exists():
        inside = sorted(str(p.parent.relative_to(path)) for p in path.glob("*/**/config.yaml"))
        hint = f"did you mean {inside[0]!r} in it?" if inside else "name the logdir of a run."
        raise UserError(
            f"logdir {str(path)!r} holds no run (there is no config.yaml in it); {hint}"
        )
    config = _read_config(path, default_config())
    _check_module(path, config.task)
    return config


def _check_module(path: pathlib.Path, task: str) -> None:
    """Refuse a stored task whose module would come from the folder of the run itself.

    `gym_<module>:<id>` imports an installed module, but Python also looks in the current folder.
    """
    module, colon, _ = task.removeprefix("gym_").rpartition(":")
    if not colon or not task.startswith("gym_"):
        return
    try:
        spec = importlib.util.find_spec(module.partition(".")[0])  # This imports nothing.
    except (ImportError, ValueError):
        return
    places = [spec.origin, *(spec.submodule_search_locations or [])] if spec else []
    root = path.resolve()
    if any(root in (pathlib.Path(p).resolve(), *pathlib.Path(p).resolve().parents)
           for p in places if p):  # fmt: skip
        raise UserError(
            f"the task {task!r} in {str(path)!r} names a module in that folder, which would be "
            "executed; look at it, and install it if you trust it."
        )


def default_config() -> Config:
    """Return the defaults of this version."""
    return flags.build(CONFIGS)


def check_logdir(
    config: Config, spaces: tuple[Mapping[str, ObsSpec], ActSpec] | None = None
) -> str | None:
    """See whether `config.logdir` is a place for a run with these settings; write nothing.

    Args:
        config: Of the run that is to begin or go on.
        spaces: Of its environment, to be compared as well.

    Returns:
        One sentence on settings that differ from those that the run had before, which is fine;
        None if there are none.

    Raises:
        UserError: The folder holds something else, or a run that cannot go on with these settings.
    """
    path = pathlib.Path(config.logdir).expanduser()
    if not path.is_dir():
        return None
    check_links(path)
    if not (path / "config.yaml").exists():
        _check_foreign(path)
        return None
    before = _read_config(path, config)
    fixed = _DATA
    if any(path.glob("checkpoint/*.index")):
        fixed += f"|{_NETWORKS}"
        if not {before.expl_behavior, config.expl_behavior} <= _WITHOUT_NETWORKS:
            fixed += f"|{_EXPLORERS}"
    changed = [
        key for key, value in config.flat.items() if key != "logdir" and before[key] != value
    ]
    lines = {key: _change(key, show(before[key]), show(config[key])) for key in changed}
    refused = [line for key, line in lines.items() if re.fullmatch(fixed, key)]
    if spaces is not None and "task" not in changed:
        refused += space_changes(path, *spaces)
    if refused:
        more = f", and {len(refused) - _SHOWN} more" if len(refused) > _SHOWN else ""
        raise UserError(
            f"logdir {str(path)!r} holds a run that cannot go on with other settings (key: there "
            f"-> here): {', '.join(refused[:_SHOWN])}{more}; use those of the run, or choose "
            "another logdir."
        )
    if not lines:
        return None
    return f"Settings that differ from those of the run so far: {', '.join(lines.values())}."


def check_links(path: pathlib.Path) -> None:
    """Refuse a folder that is about to be written to if a file in it leads out of it.

    A run that was copied from elsewhere could otherwise change any file of its new owner.

    Raises:
        UserError: There is a link to somewhere else, or something that is neither file nor folder.
    """
    root = path.resolve()
    for folder in (path, *(path / name for name in _FOLDERS)):
        for entry in sorted(folder.iterdir()) if folder.is_dir() else []:
            try:
                mode = entry.lstat().st_mode
            except FileNotFoundError:  # Another process uses the folder, which the lock will tell.
                continue
            # A link that leads nowhere would become a file there.
            inside = not stat.S_ISLNK(mode) or root in entry.resolve().parents
            if not inside or stat.S_IFMT(mode) not in (stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK):
                raise UserError(
                    f"logdir {str(path)!r} holds {str(entry.relative_to(path))!r}, which leads out "
                    "of it or is no file; put the file itself there, or link the whole logdir."
                )


def space_changes(
    path: pathlib.Path, obs_space: Mapping[str, ObsSpec], act_space: ActSpec
) -> list[str]:
    """Compare the spaces of an environment with those that a run wrote down.

    Returns:
        A text for each difference; nothing for runs that did not write them down.
    """
    stored = spaces_file.load_spaces(path)
    if stored is None:
        return []
    there, here = _texts(*stored), _texts(obs_space, act_space)
    keys = dict.fromkeys([*there, *here])
    return [
        _change(key, there.get(key, "nothing"), here.get(key, "nothing"))
        for key in keys
        if there.get(key) != here.get(key)
    ]


class Logdir:
    """Exclusive use of the folder of a run, as a context manager.

    Another process is kept out by a lock of the operating system, which ends with the process,
    however that ends; see `dreamerv2.common.lock`. What a killed process left half written is
    removed.

    Args:
        config: Of the run.
        spaces: Observations and actions of its environment.

    Attributes:
        path: The folder.
        notice: Sentences on settings that changed since the run began, and on a lock that is in
            doubt; None if there is nothing to say.

    Raises:
        UserError: The folder cannot be written, another process is using it, or it is no place
            for this run; see `check_logdir`.
    """

    def __init__(
        self, config: Config, spaces: tuple[Mapping[str, ObsSpec], ActSpec] | None = None
    ) -> None:
        self.path = pathlib.Path(config.logdir).expanduser()
        check_logdir(config, spaces)
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._lock = Lock(self.path / "lock")
        except Locked as owner:
            raise UserError(
                f"logdir {str(self.path)!r} is in use by process {owner}; "
                "stop that process or choose another logdir."
            ) from None
        except OSError as error:
            raise UserError(
                f"logdir {str(self.path)!r} cannot be written ({error.strerror}); "
                "choose a folder that you may write to."
            ) from None
        try:
            # Once more, as another process may have begun a run in the meantime.
            self.notice = check_logdir(config, spaces)
        except BaseException:
            self._lock.close()
            raise
        if self._lock.doubt:
            doubt = (
                f"The file system of {self.path} cannot lock files: make sure that process "
                f"{self._lock.doubt} has ended."
            )
            self.notice = f"{self.notice} {doubt}" if self.notice else doubt
        for pattern in _TEMPORARY:
            for path in self.path.glob(pattern):
                path.unlink(missing_ok=True)

    def __enter__(self) -> Logdir:
        """Return itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Let others use the folder."""
        self._lock.close()


def _read_config(path: pathlib.Path, like: Config) -> Config:
    try:
        return Config.load(path / "config.yaml", like=like)
    except UserError as error:
        raise UserError(
            f"logdir {str(path)!r} holds no run of this program: {str(error).rstrip('.')}; choose "
            "another logdir."
        ) from None


def _check_foreign(path: pathlib.Path) -> None:
    """Refuse a folder that holds something that is neither a run nor the beginning of one."""
    foreign = sorted(
        entry.name
        for entry in path.iterdir()
        if not re.fullmatch(f"{_OURS}|{_HARMLESS}", entry.name)
    )
    if foreign:
        names = ", ".join(foreign[:3]) + (", ..." if len(foreign) > 3 else "")
        raise UserError(
            f"logdir {str(path)!r} is neither empty nor does it hold a run (there is {names} but "
            "no config.yaml in it); choose a new folder."
        )


def _texts(obs_space: Mapping[str, ObsSpec], act_space: ActSpec) -> dict[str, str]:
    sizes = "x".join(str(size) for size in act_space.sizes)
    texts = {
        f"observation {key}": f"{spec.dtype} {spec.shape}"
        for key, spec in obs_space.items()
        if not key.startswith("log_")
    }
    return {**texts, "action space": f"{act_space.kind} {sizes}"}


def _change(key: str, there: str, here: str) -> str:
    return f"{key}: {there} -> {here}"
