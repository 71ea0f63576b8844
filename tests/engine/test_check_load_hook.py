# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""CheckLoadHook: a checkpoint that does not fit stops the run and is named."""
import logging
from collections import OrderedDict
from types import SimpleNamespace

import pytest
import torch
from mmengine.model import MMDistributedDataParallel
from mmengine.runner import EpochBasedTrainLoop
from mmengine.runner.checkpoint import _load_checkpoint_to_model
from torch import nn

from mmaction_tokenreduce.engine import CheckLoadHook


class Backbone(nn.Module):
    """A host with a reducer, a normalisation layer and one plain layer."""

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(4, 4)
        self.norm = nn.BatchNorm1d(4)
        self.reducers = nn.ModuleList([nn.Linear(4, 1)])


class Head(nn.Module):
    """A classification head."""

    def __init__(self, num_classes):
        super().__init__()
        self.fc_cls = nn.Linear(4, num_classes)


class Model(nn.Module):
    """A recogniser."""

    def __init__(self, num_classes=3):
        super().__init__()
        self.backbone = Backbone()
        self.cls_head = Head(num_classes)


def runner_of(model, training=True, resume=False):
    loop = EpochBasedTrainLoop.__new__(EpochBasedTrainLoop) if training else dict()
    return SimpleNamespace(model=model, _train_loop=loop, _resume=resume,
                           _load_from='runs/epoch_3.pth', work_dir='runs',
                           logger=logging.getLogger('runner'))


def check(state, model=None, hook=None, **runner_options):
    checkpoint = dict(state_dict=OrderedDict(state), meta=dict(epoch=3))
    runner = runner_of(model or Model(), **runner_options)
    (hook or CheckLoadHook()).after_load_checkpoint(runner, checkpoint)
    return checkpoint


def without(prefix, state):
    return {key: value for key, value in state.items() if not key.startswith(prefix)}


@pytest.mark.parametrize('training, resume', [
    (True, False), (True, True), (False, False)])
def test_a_checkpoint_that_fits_passes(training, resume):
    state = Model().state_dict()
    kept = check(state, training=training, resume=resume)['state_dict']
    assert set(kept) == set(state)
    check({f'module.{key}': value for key, value in state.items()},
          training=training, resume=resume)
    del state['backbone.norm.num_batches_tracked']  # as mmengine allows
    check(state, training=training, resume=resume)


def test_a_bare_state_dict_passes():
    CheckLoadHook().after_load_checkpoint(runner_of(Model()), Model().state_dict())


def test_a_dense_model_starts_fine_tuning_but_is_not_resumed_or_tested():
    dense = without('backbone.reducers.', Model().state_dict())
    check(dense)
    for options in (dict(resume=True), dict(training=False)):
        with pytest.raises(
                ValueError, match=r'runs/epoch_3.pth does not fit.* 2 missing '
                r'\(backbone.reducers.0.weight, backbone.reducers.0.bias\)'):
            check(dense, **options)


def test_missing_and_unexpected_keys_are_named_and_counted():
    state = without('backbone.fc', Model().state_dict())
    state.update({f'backbone.old.{index}': torch.zeros(1) for index in range(5)})
    with pytest.raises(ValueError) as caught:
        check(state)
    message = str(caught.value)
    assert '2 missing (backbone.fc.weight, backbone.fc.bias)' in message
    assert ('5 unexpected (backbone.old.0, backbone.old.1, backbone.old.2 and 2 more)'
            in message)
    assert '\n' not in message


def test_another_class_count_is_named_with_both_shapes_and_the_way_out():
    with pytest.raises(ValueError) as caught:
        check(Model(num_classes=7).state_dict())
    message = str(caught.value)
    assert 'cls_head.fc_cls.weight [7, 4] in the file, [3, 4] in the model' in message
    assert "default_hooks.check_load.allow_reshaped=['cls_head.fc_cls']" in message


@pytest.mark.parametrize('prefix', ['', 'module.'])
def test_allow_reshaped_keeps_the_new_head_and_loads_the_rest(prefix, caplog):
    other, model = Model(num_classes=7), Model()
    state = {prefix + key: value for key, value in other.state_dict().items()}
    head = model.cls_head.fc_cls.weight.detach().clone()
    hook = CheckLoadHook(allow_reshaped=['cls_head.fc_cls'])
    checkpoint = check(state, model, hook)
    assert 'cls_head.fc_cls.weight, cls_head.fc_cls.bias' in caplog.text
    _load_checkpoint_to_model(model, checkpoint)
    torch.testing.assert_close(model.backbone.state_dict(), other.backbone.state_dict())
    torch.testing.assert_close(model.cls_head.fc_cls.weight, head)
    for options in (dict(resume=True), dict(training=False)):
        with pytest.raises(ValueError, match='2 of another shape'):
            check(state, Model(), hook, **options)


def test_allow_unexpected_drops_what_the_model_has_no_place_for(caplog):
    state = Model().state_dict()
    state['backbone.temporal.weight'] = torch.zeros(1)
    hook = CheckLoadHook(allow_unexpected=['backbone.temporal.'])
    checkpoint = check(state, hook=hook)
    assert 'backbone.temporal.weight' not in checkpoint['state_dict']
    assert 'backbone.temporal.weight' in caplog.text
    with pytest.raises(ValueError, match='1 unexpected'):
        check(state, hook=hook, resume=True)


def test_options_cover_their_prefixes_only():
    state = without('backbone.fc', Model().state_dict())
    check(state, hook=CheckLoadHook(allow_missing=['backbone.fc']))
    with pytest.raises(ValueError, match='2 missing'):
        check(without('backbone.reducers', state),
              hook=CheckLoadHook(allow_missing=['backbone.fc']))


def test_keys_that_a_module_renames_while_loading_count_as_renamed():
    class Renaming(nn.Linear):

        def __init__(self):
            super().__init__(4, 4)
            self.register_load_state_dict_pre_hook(self.rename)

        @staticmethod
        def rename(module, state_dict, prefix, *args):
            if f'{prefix}kernel' in state_dict:
                state_dict[f'{prefix}weight'] = state_dict.pop(f'{prefix}kernel')

    model = nn.Sequential(Renaming())
    state = {'0.kernel': torch.ones(4, 4), '0.bias': torch.ones(4)}
    checkpoint = check(state, model)
    assert set(checkpoint['state_dict']) == set(state)  # loading still renames
    with pytest.raises(ValueError, match=r'0.weight \[4, 5\]'):
        check({'0.kernel': torch.ones(4, 5), '0.bias': torch.ones(4)}, model)


def test_a_wrapped_model_is_compared_without_its_wrapper():
    class Wrapper(MMDistributedDataParallel):

        def __init__(self, module):
            nn.Module.__init__(self)
            self.module = module

    check(Model().state_dict(), Wrapper(Model()), training=False)


def test_files_that_are_no_checkpoints_of_ours():
    hook, runner = CheckLoadHook(), runner_of(Model())
    with pytest.raises(ValueError, match='PySlowFast.*tools/convert_checkpoint.py'):
        hook.after_load_checkpoint(runner, dict(model_state={}, epoch=1))
    with pytest.raises(ValueError, match='holds a list'):
        hook.after_load_checkpoint(runner, [1])


def test_a_string_as_option_is_a_mistake():
    with pytest.raises(TypeError, match='check_load.allow_missing must be a list'):
        CheckLoadHook(allow_missing='backbone')


def test_a_star_in_a_prefix_stands_for_anything():
    state = without('backbone.norm.w', Model().state_dict())
    check(state, hook=CheckLoadHook(allow_missing=['back*.norm.weight']))
    for prefix in ('*.fc.', 'norm*', 'backbone.norm.w*x'):
        with pytest.raises(ValueError, match='1 missing'):
            check(state, hook=CheckLoadHook(allow_missing=[prefix]))
