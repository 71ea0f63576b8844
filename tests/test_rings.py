# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""ops/ and layers/ serve people without any OpenMMLab package."""
import subprocess
import sys

SCRIPT = '''
import sys

class Blocked:
    """Hides the OpenMMLab packages, as if they were not installed."""

    def find_spec(self, name, path=None, target=None):
        if name.split('.')[0] in ('mmcv', 'mmengine', 'mmaction', 'mmdet'):
            raise ModuleNotFoundError(f'No module named {name!r}', name=name)

{setup}
import torch
from mmaction_tokenreduce.layers import SpatialSelection, TemporalSelection
x, thw = torch.randn(2, 1 + 4 * 6 * 6, 8), (4, 6, 6)
x, thw = TemporalSelection(8, 0.5)(x, thw)
x, thw = SpatialSelection(8, 0.5)(x, thw)
assert x.shape == (2, 1 + 2 * 4 * 4, 8) and thw == (2, 4, 4)
loaded = [name for name in sys.modules if name.split('.')[0].startswith('mm')
          and not name.startswith(('mmap', 'mmaction_tokenreduce'))]
assert not loaded, loaded
'''
HIDDEN = '''
import importlib.util
real = importlib.util.find_spec
importlib.util.find_spec = lambda name, *args: (
    None if name == 'mmaction' else real(name, *args))
sys.meta_path.insert(0, Blocked())
'''


def run(script, repo_dir):
    return subprocess.run([sys.executable, '-c', script], cwd=repo_dir, text=True,
                          capture_output=True)


def test_ops_and_layers_need_torch_only(repo_dir):
    done = run(SCRIPT.replace('{setup}', HIDDEN), repo_dir)
    assert done.returncode == 0, done.stderr


def test_a_broken_mmaction_is_not_taken_for_a_missing_one(repo_dir, tmp_path):
    (tmp_path / 'mmaction').mkdir()
    (tmp_path / 'mmaction' / '__init__.py').write_text("raise RuntimeError('broken')")
    script = (f'import sys; sys.path.insert(0, {str(tmp_path)!r}); '
              'import mmaction_tokenreduce')
    done = run(script, repo_dir)
    assert done.returncode != 0 and 'RuntimeError: broken' in done.stderr
