# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""VerbNounHead: two classifiers, losses and probabilities computed by hand."""
import pytest
import torch
from mmaction.registry import MODELS
from mmaction.structures import ActionDataSample
from mmengine.model import BaseModel
from mmengine.registry import DefaultScope
from torch.testing import assert_close

from mmaction_tokenreduce.models import VerbNounHead

POOLED = dict(type='TimeSformerHead', in_channels=6, dropout_ratio=0, topk=(1, 2))
MAPS = dict(type='MViTHead', in_channels=6, dropout_ratio=0, with_cls_token=False)


@pytest.fixture(autouse=True)
def mmaction_scope():
    with DefaultScope.overwrite_default_scope('mmaction'):
        yield


def build(head=POOLED, **options):
    head = MODELS.build(dict(type='VerbNounHead', head=head, num_verbs=4, num_nouns=7,
                             **options))
    head.init_weights()
    for parameter in head.parameters():
        torch.nn.init.normal_(parameter)
    return head


def samples_of(*labels):
    return [ActionDataSample().set_gt_label(label) for label in labels]


def logits_by_hand(head, feats):
    return [feats @ part.fc_cls.weight.T + part.fc_cls.bias for part in head.heads]


def cross_entropy(logits, target):
    """Mean over samples of -sum_c target_c log softmax_c."""
    total = 0
    for row, shares in zip(logits, target, strict=True):
        logs = row - row.exp().sum().log()
        total -= (shares * logs).sum()
    return total / len(logits)


def test_epics_sizes_are_the_default():
    head = VerbNounHead(dict(type='MViTHead', in_channels=6))
    assert head.num_classes == (97, 300)
    assert head.verb_head.fc_cls.weight.shape == (97, 6)
    assert head.noun_head.fc_cls.weight.shape == (300, 6)


@pytest.mark.parametrize('smooth', [0, 0.1])
def test_losses_of_whole_labels(smooth):
    head = build(dict(POOLED, label_smooth_eps=smooth))
    feats = torch.randn(3, 6)
    pairs = [(0, 6), (3, 2), (1, 1)]
    losses = head.loss(feats, samples_of(*(list(pair) for pair in pairs)))
    for task, (name, count) in enumerate((('verb', 4), ('noun', 7))):
        logits = logits_by_hand(head, feats)[task]
        target = torch.full((3, count), smooth / count)
        for index, pair in enumerate(pairs):
            target[index, pair[task]] += 1 - smooth
        assert_close(losses[f'{name}_loss_cls'], cross_entropy(logits, target))
        right = [logits[i].argmax().item() == pair[task] for i, pair in
                 enumerate(pairs)]
        assert losses[f'{name}_top1_acc'].item() == pytest.approx(sum(right) / 3)
    assert len(losses) == 6


def test_losses_of_mixed_labels():
    head = build()
    feats = torch.randn(2, 6)
    verbs, nouns = torch.rand(2, 4).softmax(1), torch.rand(2, 7).softmax(1)
    losses = head.loss(feats, samples_of(*torch.cat([verbs, nouns], dim=1)))
    verb_logits, noun_logits = logits_by_hand(head, feats)
    assert losses.keys() == {'verb_loss_cls', 'noun_loss_cls'}
    assert_close(losses['verb_loss_cls'], cross_entropy(verb_logits, verbs))
    assert_close(losses['noun_loss_cls'], cross_entropy(noun_logits, nouns))


def test_the_losses_are_added_up_and_every_parameter_learns():
    head = build()
    losses = head.loss(torch.randn(2, 6), samples_of([0, 6], [3, 2]))
    total, _ = BaseModel.parse_losses(None, losses)
    assert_close(total, losses['verb_loss_cls'] + losses['noun_loss_cls'])
    total.backward()
    assert len(list(head.parameters())) == 4
    assert all(p.grad.abs().sum() > 0 for p in head.parameters())


@pytest.mark.parametrize('label', [[2, 5], torch.rand(11)])
def test_a_batch_of_one(label):
    head = build()
    losses = head.loss(torch.randn(1, 6), samples_of(label))
    assert losses['verb_loss_cls'].dim() == 0 and losses['noun_loss_cls'].isfinite()


@pytest.mark.parametrize('average', ['prob', 'score'])
def test_probabilities_are_averaged_over_views(average):
    head = build(average_clips=average)
    feats = torch.randn(6, 6)  # two videos of three views
    samples = head.predict(feats, samples_of([0, 0], [1, 1]))
    for video, sample in enumerate(samples):
        assert sample.pred_score.keys() == {'verb', 'noun'}
        for task, name in enumerate(('verb', 'noun')):
            views = logits_by_hand(head, feats)[task][3 * video:3 * video + 3]
            wanted = views.mean(0).softmax(0) if average == 'score' else (
                sum(view.softmax(0) for view in views) / 3)
            assert_close(sample.pred_score[name], wanted)
            assert sample.pred_label[task] == wanted.argmax()
        assert sample.gt_label.tolist() == [video, video]


def test_features_as_mvit_gives_them():
    head = build(MAPS)
    maps = torch.randn(2, 6, 2, 3, 3)
    wanted = logits_by_hand(head, maps.mean((2, 3, 4)))
    for scores, by_hand in zip(head((maps, )), wanted, strict=True):
        assert_close(scores, by_hand)
    head = build(dict(type='MViTHead', in_channels=6))  # with class token
    token = torch.randn(2, 6)
    for scores, by_hand in zip(head.eval()(([maps, token], )),
                               logits_by_hand(head, token), strict=True):
        assert_close(scores, by_hand)


def test_bfloat16_scores():
    head = build()
    feats = torch.randn(2, 6)
    with torch.autocast('cpu', torch.bfloat16):
        losses = head.loss(feats, samples_of([0, 6], [3, 2]))
        scores = head.predict(feats, samples_of([0, 6], [3, 2]))[0].pred_score
    assert losses['verb_loss_cls'].dtype == torch.float32
    assert scores['verb'].sum().item() == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize('head,options,error,words', [
    (dict(POOLED, num_classes=3), {}, ValueError, 'must not have num_classes'),
    (dict(POOLED, average_clips=None), {}, ValueError, 'must not have average_clips'),
    (POOLED, dict(average_clips=None), ValueError, "'prob' or 'score', got None"),
    (dict(type='CrossEntropyLoss'), {}, TypeError, 'num_classes'),
    (dict(type='MixupBlending'), {}, TypeError, "mmaction2's heads, got MixupBlending"),
])
def test_options_are_checked(head, options, error, words):
    with pytest.raises(error, match=words):
        VerbNounHead(head, **options)


@pytest.mark.parametrize('label,words', [
    ([4, 0], 'label 4 of task 0 must be 0 to 3'),
    ([0, -1], 'label -1 of task 1 must be 0 to 6'),
    ([0], 'labels have 1 numbers'),
    (torch.rand(12), 'soft labels have 12 numbers, .* asks for 11')])
def test_labels_are_checked(label, words):
    with pytest.raises(ValueError, match=words):
        build().loss(torch.randn(1, 6), samples_of(label))
