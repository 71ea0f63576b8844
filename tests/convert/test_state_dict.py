# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""Renaming: what fits comes out under new names, what does not is named."""
import pytest
import torch
from torch import nn

from mmaction_tokenreduce.convert import Rule, convert_state_dict, target_shapes

RULES = [
    Rule(r'head\.old\..+', None, 'unused by the release itself'),
    Rule(r'head\.(.+)', r'cls_head.fc.\1'),
    Rule(r'(stem|neck)\.(.+)', r'backbone.\1.\2'),
]
TARGET = {'cls_head.fc.weight': (5, 4), 'cls_head.fc.bias': [5],
          'backbone.stem.weight': torch.zeros(4, 3)}


def source(**changes):
    state_dict = {'stem.weight': torch.full((4, 3), 1.),
                  'head.weight': torch.full((5, 4), 2.),
                  'head.bias': torch.full((5, ), 3.)}
    state_dict.update(changes)
    return {name: value for name, value in state_dict.items() if value is not None}


def test_every_tensor_lands_under_its_new_name():
    state_dict = source(**{'head.old.bias': torch.zeros(2)})
    result = convert_state_dict(state_dict, RULES, TARGET, 'toy')
    assert list(result.state_dict) == list(TARGET)
    assert result.state_dict['backbone.stem.weight'] is state_dict['stem.weight']
    assert result.state_dict['cls_head.fc.bias'] is state_dict['head.bias']
    assert result.sources == {'cls_head.fc.weight': 'head.weight',
                              'cls_head.fc.bias': 'head.bias',
                              'backbone.stem.weight': 'stem.weight'}
    assert result.dropped == {'head.old.bias': 'unused by the release itself'}
    assert 'stem.weight -> backbone.stem.weight 4x3' in result.listing()
    summary = [line.split() for line in result.summary().splitlines()]
    assert summary[0] == ['cls_head.fc', '2', 'tensors', '0.000025', 'M']
    assert summary[-2] == ['total', '3', 'tensors', '0.000037', 'M']
    assert 'unused by the release itself' in result.summary()


@pytest.mark.parametrize(('changes', 'message'), [
    ({'tail.bias': torch.zeros(1)},
     '1 source keys have no place in the model: tail.bias$'),
    ({'neck.bias': torch.zeros(1)}, r'model: neck.bias \(-> backbone.neck.bias\)$'),
    ({'head.bias': None},
     '1 keys of the model are missing from the source: cls_head.fc.bias$'),
    ({'head.bias': torch.zeros(3)},
     '1 keys have another shape: head.bias 3, but cls_head.fc.bias is 5$'),
    ({'head.weight': torch.zeros(())}, 'head.weight scalar, but .* is 5x4$'),
    ({f'tail.{i}': torch.zeros(1) for i in range(6)},
     '6 source keys .*: tail.0, tail.1, tail.2, tail.3, and 2 more$'),
    ({'tail': torch.zeros(1), 'head.bias': torch.zeros(3), 'stem.weight': None},
     'toy: .*no place.*tail; 1 keys of the model.*stem.weight; 1 keys.*head.bias 3'),
])
def test_what_does_not_fit_is_named(changes, message):
    with pytest.raises(ValueError, match=message) as caught:
        convert_state_dict(source(**changes), RULES, TARGET, 'toy')
    assert '\n' not in str(caught.value)


def test_what_no_source_fills_may_be_left_with_a_reason():
    initial = {r'cls_head\..+': 'other classes', r'neck\..+': 'never there'}
    stem = {'stem.weight': torch.zeros(4, 3)}
    result = convert_state_dict(stem, RULES, TARGET, 'toy', initial)
    assert list(result.state_dict) == ['backbone.stem.weight']
    left = ['cls_head.fc.weight', 'cls_head.fc.bias']
    assert result.initial == dict.fromkeys(left, 'other classes')
    assert result.summary().endswith(
        f'\nnot written, keeps its initial value: {", ".join(left)}: other classes')
    assert result.listing().endswith('\ncls_head.fc.bias is not written')
    result = convert_state_dict(source(), RULES, TARGET, 'toy', initial)
    assert list(result.state_dict) == list(TARGET) and not result.initial
    with pytest.raises(ValueError, match='1 keys of the model are missing from the sour'
                       'ce: backbone.stem.weight$'):
        convert_state_dict(source(**{'stem.weight': None}), RULES, TARGET, 'toy',
                           initial)


def test_many_that_are_dropped_for_one_reason_are_one_line():
    names = [f'head.old.{i}' for i in range(6)]
    state_dict = source(**dict.fromkeys(names, torch.zeros(2)))
    result = convert_state_dict(state_dict, RULES, TARGET, 'toy')
    assert result.summary().splitlines()[-1] == (
        f'dropped {", ".join(names[:4])}, and 2 more: unused by the release itself')
    assert result.listing().splitlines()[-6:] == [
        f'{name} is dropped' for name in names]


def test_two_sources_for_one_place_are_named():
    rules = [Rule(r'.*\.(weight|bias)', r'\1')]
    with pytest.raises(ValueError, match=r'a.bias and b.bias \(-> bias\)'):
        convert_state_dict({'a.bias': torch.zeros(1), 'b.bias': torch.zeros(1)}, rules,
                           {'bias': (1, )}, 'toy')


def test_a_rule_drops_with_a_reason_and_only_then():
    with pytest.raises(ValueError, match='a reason is needed'):
        Rule('a', None)
    with pytest.raises(ValueError, match='a reason is needed'):
        Rule('a', 'b', 'because')


def test_target_shapes_of_a_model_and_of_its_state_dict():
    model = nn.Linear(3, 2)
    expected = {'weight': (2, 3), 'bias': (2, )}
    assert target_shapes(model) == target_shapes(model.state_dict()) == expected
