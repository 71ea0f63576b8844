# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""Reading released checkpoint files safely, and writing ours whole or not at all."""
import argparse
import os
import pickle
import re
import warnings
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from ..whole_file import whole_file

__all__ = ['read_checkpoint', 'write_checkpoint']

# Plain values that released files keep beside their weights, in classes without code.
_PLAIN = [argparse.Namespace]
# Where released files hold their weights, beside epochs and optimiser states.
_WEIGHT_KEYS = ('model_state', 'state_dict', 'model', 'module')


def read_checkpoint(path: str | os.PathLike) -> dict[str, Tensor]:
    """Read the weights of a checkpoint, without running any code in it.

    Args:
        path: A ``.safetensors`` file, or anything that ``torch.save`` wrote
            (``.pyth``, ``.pth``, ``.pt``, ...): the weights alone or under
            ``model_state``, ``state_dict``, ``model`` or ``module``.

    Returns:
        Names to tensors, on the CPU.

    Raises:
        FileNotFoundError: If there is no such file.
        PermissionError: If it may not be read.
        ValueError: If it is no checkpoint, or needs an unsafe pickle.
    """
    path = Path(path)
    if path.is_dir():
        raise ValueError(f'{path} is a directory: name the checkpoint file in it')
    if not path.exists():
        raise FileNotFoundError(f'no checkpoint file {path}')
    if path.stat().st_size == 0:
        raise ValueError(f'{path} is empty: download it again')
    if path.suffix == '.safetensors':
        return _read_safetensors(path)
    return _weights(_load(path), path)


def write_checkpoint(path: str | os.PathLike, state_dict: Mapping[str, Tensor],
                     meta: Mapping[str, str]) -> None:
    """Write a checkpoint that mmengine loads, whole or not at all.

    Args:
        path: The file; folders above it are made, an older file is replaced.
        state_dict: Names to tensors.
        meta: Plain values that say where it comes from.
    """
    with whole_file(path) as part:
        torch.save(dict(state_dict=dict(state_dict), meta=dict(meta)), part)


def _load(path: Path) -> object:
    """torch.load with weights only; what it refuses becomes one line."""
    try:
        with warnings.catch_warnings(), torch.serialization.safe_globals(_PLAIN):
            warnings.simplefilter('ignore')  # its advice is about trusting the file
            return torch.load(path, map_location='cpu', weights_only=True)
    except pickle.UnpicklingError as error:
        name = re.search(r'GLOBAL (\S+)', str(error))
        if name:
            raise ValueError(
                f'{path} is refused: it holds a pickled {name[1]}, and loading that '
                'could run code; where you trust the file, save its tensors alone '
                "again, torch.save(dict(model_state=...)), on a machine that may run "
                'it') from error
        raise ValueError(f'{path} is not a checkpoint that torch.save wrote, or a '
                         'pickle of another kind') from error
    except PermissionError:
        raise
    except (RuntimeError, EOFError, OSError, LookupError, ValueError, AttributeError,
            TypeError) as error:
        # Whatever the reader stumbles over in a file that is something else.
        reason = str(error).partition('\n')[0].partition('. ')[0]
        raise ValueError(
            f'{path} is not a checkpoint, or a damaged one ({type(error).__name__}: '
            f'{reason}): download it again') from error


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        from safetensors import SafetensorError
        from safetensors.torch import load_file
    except ImportError as error:
        raise ValueError(f'{path}: reading .safetensors needs a further package: '
                         'pip install safetensors') from error
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise ValueError(f'{path} is not a safetensors file ({error})') from error


def _weights(loaded: object, path: Path) -> dict[str, Tensor]:
    """The state dict in what a file holds."""
    if not isinstance(loaded, Mapping):
        raise ValueError(f'{path} holds a {type(loaded).__name__}, not a dict of '
                         'weights')
    for key in _WEIGHT_KEYS:
        if isinstance(loaded.get(key), Mapping):
            loaded = loaded[key]
            break
    wrong = [key for key, value in loaded.items() if not isinstance(value, Tensor)]
    if wrong or not loaded:
        held = ', '.join(str(key) for key in wrong[:4]) or 'nothing'
        raise ValueError(f'{path} holds no dict of tensors, alone or under '
                         f'{", ".join(_WEIGHT_KEYS)}; it holds {held}')
    return dict(loaded)
