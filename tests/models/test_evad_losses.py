# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""EVAD's matching and losses against a naive computation from its description."""
import itertools
import math

import pytest
import torch
from tiny_evad import CLASSES, detector, random_boxes, sample
from torch.testing import assert_close

from mmaction_tokenreduce.models.sparse_localizer import Match, SparseLocalizer, Stage

SIZES = torch.tensor([[64.0, 96.0], [48.0, 80.0], [64.0, 64.0]])
WEIGHTS = dict(person=2.0, l1=5.0, giou=2.0)


def giou(a, b):
    """Of two boxes, as the paper on it defines it."""
    def area(x1, y1, x2, y2):
        return max(x2 - x1, 0.0) * max(y2 - y1, 0.0)

    shared = area(max(a[0], b[0]), max(a[1], b[1]), min(a[2], b[2]), min(a[3], b[3]))
    union = area(*a) + area(*b) - shared
    around = area(min(a[0], b[0]), min(a[1], b[1]), max(a[2], b[2]), max(a[3], b[3]))
    return shared / union - (around - union) / around


def l1(a, b, size):
    """Sum of differences, as shares of the width and height of the unpadded image."""
    height, width = size
    return sum(abs(p - q) / side for p, q, side in zip(a, b, (width, height) * 2,
                                                       strict=True))


def naive_match(logits, boxes, actors, size):
    """The cheapest assignment, by trying all: proposal of each actor."""
    best, least = None, math.inf
    for chosen in itertools.permutations(range(len(boxes)), len(actors)):
        cost = sum(
            -2 * logits[p].softmax(0)[0].item()
            + 5 * l1(boxes[p].tolist(), actor, size)
            - 2 * giou(boxes[p].tolist(), actor)
            for p, actor in zip(chosen, actors, strict=True))
        if cost < least:
            best, least = chosen, cost
    return best


def naive_losses(stage, actors, matched):
    """Class: weighted mean over all proposals; boxes: sums over actors' number."""
    total = weights = shift = overlap = 0.0
    for b, boxes in enumerate(actors):
        for p in range(stage.boxes.shape[1]):
            label = 0 if p in matched[b] else 1
            weight = 1.0 if label == 0 else 0.1
            total -= weight * stage.logits[b, p].log_softmax(0)[label].item()
            weights += weight
        for p, actor in zip(matched[b], boxes.tolist(), strict=True):
            found = stage.boxes[b, p].tolist()
            shift += l1(found, actor, SIZES[b].tolist())
            overlap += 1 - giou(found, actor)
    count = max(1, sum(len(boxes) for boxes in actors))
    return dict(person=2 * total / weights, l1=5 * shift / count,
                giou=2 * overlap / count)


def localizer(**kwargs):
    return SparseLocalizer(**{**dict(
        num_proposals=6, num_stages=2, channels=16, dynamic_channels=4,
        head=dict(num_heads=2, feedforward_channels=8)), **kwargs})


def stages(count=2, proposals=6):
    made = []
    for _ in range(count):
        boxes = torch.stack([random_boxes(proposals, *map(int, size))
                             for size in SIZES.tolist()])
        made.append(Stage(torch.randn(3, proposals, 2, requires_grad=True),
                          boxes.requires_grad_()))
    return made


def actors():
    return [random_boxes(2, 64, 96), random_boxes(3, 48, 80), torch.zeros(0, 4)]


@pytest.mark.parametrize('trial', range(3))
def test_matching_is_the_cheapest_of_all(trial):
    torch.manual_seed(trial)
    (stage, ), truth = stages(1), actors()
    for match, logits, boxes, actual, size in zip(
            localizer().match(stage, truth, SIZES), *stage, truth, SIZES.tolist(),
            strict=True):
        want = naive_match(logits, boxes, actual.tolist(), size)
        got = dict(zip(match.actors.tolist(), match.proposals.tolist(), strict=True))
        assert got == dict(enumerate(want))


def test_losses_of_every_stage_by_a_match_of_its_own():
    found, truth, model = stages(), actors(), localizer()
    losses, last = model.loss(found, truth, SIZES)
    assert list(losses) == [f'stage{i}.loss_{name}' for i in range(2)
                            for name in WEIGHTS]
    for i, stage in enumerate(found):
        matched = [naive_match(logits, boxes, actual.tolist(), size)
                   for logits, boxes, actual, size in zip(*stage, truth, SIZES.tolist(),
                                                          strict=True)]
        for name, want in naive_losses(stage, truth, matched).items():
            got = losses[f'stage{i}.loss_{name}'].item()
            assert got == pytest.approx(want, rel=1e-4), (i, name)
    assert [match.proposals.tolist() for match in last] == [
        match.proposals.tolist() for match in model.match(found[-1], truth, SIZES)]


def test_weights_are_those_asked_for():
    (stage, ), truth = stages(1), actors()
    one = localizer(weights=(1.0, 1.0, 1.0), nobody_weight=1.0)
    many = localizer(weights=(2.0, 5.0, 2.0), nobody_weight=1.0)
    one.match = many.match  # the same proposals
    want, got = (model.loss([stage], truth, SIZES)[0] for model in (one, many))
    for (name, value), factor in zip(got.items(), (2.0, 5.0, 2.0), strict=True):
        assert_close(value, factor * want[name])


def test_without_actors_all_are_nobody():
    (stage, ) = stages(1)
    losses, matches = localizer().loss([stage], [torch.zeros(0, 4)] * 3, SIZES)
    want = -2 * stage.logits.log_softmax(-1)[..., 1].mean()
    assert_close(losses['stage0.loss_person'], want)
    assert losses['stage0.loss_l1'] == losses['stage0.loss_giou'] == 0
    sum(losses.values()).backward()
    assert_close(stage.boxes.grad, torch.zeros(3, 6, 4))  # there, for DDP, and 0
    assert all(not len(match.proposals) for match in matches)


def test_more_actors_than_proposals():
    with pytest.raises(ValueError, match='num_proposals=6: a clip has 7 actors; it '
                                         'must be at least as many'):
        localizer().match(stages(1)[0], [random_boxes(7), *actors()[1:]], SIZES)
    as_many = [random_boxes(6), *actors()[1:]]
    matches = localizer().match(stages(1)[0], as_many, SIZES)
    assert sorted(matches[0].proposals.tolist()) == list(range(6))


def test_training_that_diverged_says_so():
    (stage, ) = stages(1)
    broken = stage._replace(boxes=stage.boxes.detach().clone().fill_(math.nan))
    with pytest.raises(FloatingPointError, match='training has diverged'):
        localizer().match(broken, actors(), SIZES)


@pytest.mark.parametrize('kwargs,message', [
    (dict(num_proposals=0), 'num_proposals=0: must be a whole number'),
    (dict(num_stages=1.5), 'num_stages=1.5: must be a whole number'),
    (dict(weights=(1.0, 2.0)), 'must be three numbers, of class, L1 and GIoU'),
    (dict(nobody_weight=0), 'nobody_weight=0: must be a finite number above 0'),
    (dict(nobody_weight=-0.1), 'nobody_weight=-0.1: must be')])
def test_bad_arguments_of_the_localizer(kwargs, message):
    with pytest.raises(ValueError, match=message):
        localizer(**kwargs)


def head(**kwargs):
    return detector(head=kwargs).action_head


MATCHES = [Match(torch.tensor([4, 0]), torch.tensor([1, 0])),
           Match(torch.tensor([2]), torch.tensor([0]))]


def test_action_loss_is_the_mean_over_actors_and_actions_at_every_depth():
    logits = [torch.randn(2, 10, CLASSES) for _ in range(2)]
    targets = [(torch.rand(2, CLASSES) > 0.5).float(), torch.ones(1, CLASSES)]
    losses = head().loss(logits, MATCHES, targets)
    assert list(losses) == ['depth0.loss_action', 'depth1.loss_action']
    pairs = [(0, 4, 1), (0, 0, 0), (1, 2, 0)]  # clip, proposal, actor
    for depth in range(2):
        total = 0.0
        for b, proposal, actor in pairs:
            for k in range(CLASSES):
                p = logits[depth][b, proposal, k].sigmoid().item()
                y = targets[b][actor, k].item()
                total -= y * math.log(p) + (1 - y) * math.log(1 - p)
        assert losses[f'depth{depth}.loss_action'].item() == pytest.approx(
            12 * total / (3 * CLASSES), rel=1e-4)


def test_one_label_each_is_a_softmax():
    logits = [torch.randn(2, 10, CLASSES)]
    model = head(multilabel=False)
    labels = torch.tensor([3, 1]), torch.tensor([[5]])
    targets = [model.targets(ids, 'a clip') for ids in labels]
    loss = model.loss(logits, MATCHES, targets)['depth0.loss_action']
    want = sum(-logits[0][b, p].log_softmax(0)[k - 1] for b, p, k in
               ((0, 4, 1), (0, 0, 3), (1, 2, 5))) / 3
    assert_close(loss, 12 * want)
    scores = model.scores(logits[0])
    assert_close(scores.sum(-1), torch.ones(2, 10))
    assert not scores[..., 0].any()


@pytest.mark.parametrize('labels,message', [
    (torch.ones(2, 4), r'labels of shape \(2, 4\); ids go from 1 to 5, and num_classes '
     'of the data set must be 6'),
    (torch.eye(6)[:2], 'clip c has label 0; ids go from 1 to 5'),
    (torch.tensor([2, 6]), 'clip c has label 6; ids go from 1 to 5'),
    (torch.tensor([-1]), 'label -1'),
    (torch.tensor([[1, 0]]), 'label 0')])
def test_labels_that_do_not_fit(labels, message):
    with pytest.raises(ValueError, match=message):
        head().targets(labels, 'clip c')


def test_ids_and_columns_say_the_same():
    columns = torch.zeros(2, 6)
    columns[0, [1, 5]] = 1
    columns[1, 3] = 1
    ids = torch.tensor([[1, 5], [3, 3]])
    assert_close(head().targets(ids, ''), head().targets(columns, ''))
    assert head().targets(torch.zeros(0), '').shape == (0, CLASSES)


def test_one_label_each_is_demanded():
    labels = sample(random_boxes(2), torch.tensor([[0., 1, 1, 0, 0, 0],
                                                   [0, 0, 0, 1, 0, 0]])).gt_instances
    with pytest.raises(ValueError, match=r'exactly one label, clip c has \[2, 1\]'):
        head(multilabel=False).targets(labels.labels, 'clip c')


def test_losses_are_divided_by_how_many_they_are():
    """As in the release: 24 with 6 stages and 6 depths, 8 here."""
    clip = torch.randn(1, 3, 8, 64, 96)
    truth = [sample(random_boxes(2), img_shape=(64, 96))]
    model = detector().eval()
    averaged = model(clip, truth, mode='loss')
    model.average_losses = False
    summed = model(clip, truth, mode='loss')
    assert len(summed) == 8
    for name, value in summed.items():
        assert_close(averaged[name], value / 8)
