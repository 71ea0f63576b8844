# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""``JHMDB-GT.pkl`` and ``UCF101v2-GT.pkl`` without running what is in them.

Unpickling calls whatever a file names. `load_tubes` knows the names by which numpy
arrays are put together again and refuses every other.
"""
import io
import pickle
from typing import Any

import numpy as np

KEYS = ('labels', 'gttubes', 'nframes', 'train_videos', 'test_videos', 'resolution')


class RefusedPickleError(pickle.UnpicklingError, ValueError):
    """A pickle names something else than numpy arrays."""


def _latin1_bytes(text: Any, encoding: Any) -> bytes:
    """``_codecs.encode`` as far as numpy's arrays of bytes need it."""
    if not isinstance(text, str) or encoding != 'latin1':
        raise RefusedPickleError('_codecs.encode is refused but for bytes of arrays')
    return text.encode('latin1')


def _empty_array(kind: Any, shape: Any, code: Any) -> np.ndarray:
    """``numpy.core.multiarray._reconstruct``, which only makes an empty array here."""
    if kind is not np.ndarray or shape != (0, ) or code not in ('b', b'b'):
        raise RefusedPickleError('numpy _reconstruct is refused but for plain arrays')
    return np.ndarray((0, ), np.int8)


_ALLOWED = {('numpy', 'ndarray'): np.ndarray, ('numpy', 'dtype'): np.dtype,
            ('_codecs', 'encode'): _latin1_bytes,
            ('numpy.core.multiarray', '_reconstruct'): _empty_array,
            ('numpy._core.multiarray', '_reconstruct'): _empty_array}


class _ArrayUnpickler(pickle.Unpickler):
    """Plain containers, numbers, text and numpy arrays."""

    def find_class(self, module: str, name: str) -> Any:
        """What a name in the file stands for."""
        try:
            return _ALLOWED[module, name]
        except KeyError:
            raise RefusedPickleError(
                f'{module}.{name} is refused: nothing but numpy arrays is read from a '
                'pickle, since anything else could run code') from None


def load_tubes(data: bytes) -> dict[str, Any]:
    """Read the contents of a pickle of action tubes (protocols 0 to 4).

    Args:
        data (bytes): The file, of Python 2 or 3.

    Returns:
        dict: `KEYS`, with lists instead of arrays, as JSON holds them.

    Raises:
        RefusedPickleError: If it names anything but numpy arrays.
        ValueError: If it is damaged or holds something else.
    """
    try:
        found = _ArrayUnpickler(io.BytesIO(data), encoding='latin1').load()
    except RefusedPickleError:
        raise
    except Exception as error:  # whatever a damaged pickle makes of it
        raise ValueError(f'it is no pickle, or a damaged one: {error}') from None
    missing = [key for key in KEYS if not isinstance(found, dict) or key not in found]
    if missing:
        raise ValueError(f'it has no {", ".join(missing)}')
    return {key: _plain(found[key], key) for key in KEYS}


def _plain(value: Any, where: str) -> Any:
    """The same as JSON holds it; arrays of objects and odd things are refused."""
    if isinstance(value, np.ndarray) and value.dtype.kind in 'iuf':
        return value.tolist()
    if isinstance(value, dict):
        return {str(key): _plain(entry, f'{where}[{key!r}]')
                for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(entry, f'{where}[{at}]') for at, entry in enumerate(value)]
    if isinstance(value, str | int | float):
        return value
    raise ValueError(f'{where} is of type {type(value).__name__}, must be lists, '
                     'numbers and text')
