# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""MotionDataPreprocessor: frames, fields and labels are blended by one draw."""
from collections import Counter

import pytest
import torch
from mmaction.datasets.repeat_aug_dataset import repeat_pseudo_collate
from mmaction.models.data_preprocessors import ActionDataPreprocessor
from mmaction.registry import MODELS
from mmaction.structures import ActionDataSample
from mmengine.dataset import pseudo_collate
from torch.testing import assert_close

from mmaction_tokenreduce.models import MotionBlending, MotionDataPreprocessor
from mmaction_tokenreduce.models.joint_labels import soft_labels, split_labels
from mmaction_tokenreduce.models.motion_blending import cut_box

MIXUP = dict(mixup_alpha=0.8, cutmix_alpha=0)
CUTMIX = dict(mixup_alpha=0, cutmix_alpha=1.0)


def sample(label, views=1, frames=4, size=16, grid=4, channels=2):
    imgs = torch.randint(0, 256, (views, 3, frames, size, size), dtype=torch.uint8)
    motion = torch.randn(views, channels, frames, grid, grid).half()
    return dict(inputs=dict(imgs=imgs, motion=motion),
                data_samples=ActionDataSample().set_gt_label(label))


def constant_batch(count, size=(16, 24), grid=(4, 6)):
    """Sample i is i everywhere, in frames and motion, and of class i."""
    ids = torch.arange(count, dtype=torch.float32).view(-1, 1, 1, 1, 1, 1)
    return (ids.expand(-1, 1, 3, 2, *size).clone(),
            ids.expand(-1, 1, 2, 2, *grid).clone(),
            [ActionDataSample().set_gt_label(label) for label in range(count)])


def labels_of(samples):
    return torch.stack([sample.gt_label for sample in samples])


def test_frames_are_mmactions_and_motion_is_widened():
    options = dict(mean=[1.0, 2.0, 3.0], std=[4.0, 5.0, 6.0], to_rgb=True)
    batch = pseudo_collate([sample(1, views=2), sample(2, views=2)])
    own = MODELS.build(dict(type='MotionDataPreprocessor', **options))(batch)
    theirs = ActionDataPreprocessor(format_shape='NCTHW', **options)(
        dict(inputs=batch['inputs']['imgs'], data_samples=batch['data_samples']))
    assert_close(own['inputs']['imgs'], theirs['inputs'], rtol=0, atol=0)
    value = batch['inputs']['imgs'][1][0, 2, 3, 4, 5].item()  # red of BGR, now first
    assert own['inputs']['imgs'][1, 0, 0, 3, 4, 5].item() == pytest.approx(
        (value - 1) / 4)
    wanted = torch.stack(batch['inputs']['motion']).to(torch.float32)
    assert own['inputs']['motion'].dtype == torch.float32
    assert_close(own['inputs']['motion'], wanted, rtol=0, atol=0)
    assert [s.gt_label.tolist() for s in own['data_samples']] == [[1], [2]]


def test_without_a_mean_frames_become_floats():
    batch = pseudo_collate([sample(0)])
    imgs = MotionDataPreprocessor()(batch)['inputs']['imgs']
    assert_close(imgs[0], batch['inputs']['imgs'][0].float(), rtol=0, atol=0)


def test_no_samples_and_several_batches():
    """Inference without labels; a tuple of batches, as mmaction2 allows."""
    inputs = pseudo_collate([sample(0)])['inputs']
    first, second = MotionDataPreprocessor()((dict(inputs=inputs), dict(inputs=inputs)))
    assert first['data_samples'] is None
    assert_close(first['inputs']['motion'], second['inputs']['motion'])


def test_repeated_augmentation():
    """Each item a list of repeats: four clips of two videos, each with its label."""
    items = [[sample(3), sample(3)], [sample(5), sample(5)]]
    blending = dict(type='MotionBlending', num_classes=8, **MIXUP)
    data = MotionDataPreprocessor(blending=blending)(
        repeat_pseudo_collate(items), training=True)
    assert data['inputs']['imgs'].shape == (4, 1, 3, 4, 16, 16)
    assert data['inputs']['motion'].shape == (4, 1, 2, 4, 4, 4)
    labels = labels_of(data['data_samples'])
    assert_close(labels[:, [3, 5]].sum(1), torch.ones(4))


def test_blending_is_for_training_alone():
    blending = dict(type='MotionBlending', num_classes=4)
    batch = pseudo_collate([sample(1), sample(2)])
    data = MotionDataPreprocessor(blending=blending)(batch)
    assert_close(data['inputs']['motion'], torch.stack(batch['inputs']['motion'])
                 .float(), rtol=0, atol=0)
    assert [s.gt_label.tolist() for s in data['data_samples']] == [[1], [2]]


def test_mixup_is_one_draw_for_all_three():
    for seed in range(20):
        torch.manual_seed(seed)
        imgs, motion = torch.randn(5, 1, 3, 2, 8, 8), torch.randn(5, 1, 2, 2, 2, 2)
        samples = [ActionDataSample().set_gt_label(label) for label in range(5)]
        mixed_imgs, mixed_motion, samples = MotionBlending(5, **MIXUP)(
            imgs.clone(), motion.clone(), samples)
        # class i is sample i, so the labels are the weights of the samples
        weights = labels_of(samples)
        assert_close(weights.sum(1), torch.ones(5))
        assert_close(mixed_imgs, torch.einsum('ij,j...->i...', weights, imgs))
        assert_close(mixed_motion, torch.einsum('ij,j...->i...', weights, motion))


@pytest.mark.parametrize('size,grid', [
    ((16, 24), (4, 6)), ((16, 16), (16, 16)), ((28, 14), (2, 2)), ((13, 14), (5, 3))])
def test_cutmix_is_one_box_for_all_three(size, grid):
    """Every cell and the pixels nearest to it show one video; labels count pixels."""
    seen = Counter()
    for seed in range(40):
        torch.manual_seed(seed)
        imgs, motion, samples = MotionBlending(5, **CUTMIX)(
            *constant_batch(5, size, grid))
        weights = labels_of(samples)
        for index in range(5):
            pixels, cells = imgs[index, 0, 0, 0], motion[index, 0, 0, 0]
            assert (imgs[index] == pixels).all() and (motion[index] == cells).all()
            for y in range(size[0]):
                for x in range(size[1]):
                    row = int((y + 0.5) * grid[0] / size[0])
                    column = int((x + 0.5) * grid[1] / size[1])
                    assert pixels[y, x] == cells[row, column]
            shares = [(pixels == video).float().mean() for video in range(5)]
            assert_close(weights[index], torch.stack(shares))
            seen[len(cells.unique())] += 1
    assert seen[2] > 40  # a box of the partner's on ground of its own


def test_the_box():
    # 1 - lambda = 1/4: half of each side, so 16 x 24 of 32 x 48 pixels
    box = cut_box(0.75, (0.5, 0.5), (32, 48), (8, 12))
    assert box.pixels == (slice(8, 24), slice(12, 36))
    assert box.cells == (slice(2, 6), slice(3, 9)) and box.share == 0.25
    # cut off at the corner: a quarter of that is left
    box = cut_box(0.75, (0.0, 1.0), (32, 48), (8, 12))
    assert box.pixels == (slice(0, 8), slice(36, 48)) and box.share == 0.0625
    # edges at 13.5 and 18.5 of 32 px lie in cells 3.375 and 4.625 of 8: 3 and 5
    box = cut_box(1 - (5 / 32)**2, (0.5, 0.5), (32, 32), (8, 8))
    assert box.cells[0] == slice(3, 5) and box.pixels[0] == slice(12, 20)
    # one that reaches no middle of a cell vanishes; at lambda 0 it is the whole frame
    assert cut_box(1 - 0.04**2, (0.4, 0.4), (32, 32), (8, 8)).share == 0
    assert cut_box(0.0, (0.5, 0.5), (32, 32), (8, 8)).share == 1


def draws(count, **options):
    """For each draw: 'none', 'mixup' or 'cutmix', and lambda of the labels."""
    found = []
    blending = MotionBlending(2, **options)
    for seed in range(count):
        torch.manual_seed(seed)
        imgs, _, samples = blending(*constant_batch(2, (8, 8), (8, 8)))
        lam = labels_of(samples)[0, 0].item()
        fractional = bool((imgs != imgs.round()).any())
        found.append(('mixup' if fractional else 'none' if lam == 1 else 'cutmix', lam))
    return found


def test_probabilities():
    """Half of the permutations of two leave all as it is."""
    kinds = Counter(kind for kind, _ in draws(600))
    assert 0.17 < kinds['mixup'] / 600 < 0.33 and 0.14 < kinds['cutmix'] / 600 < 0.33
    kinds = Counter(kind for kind, _ in draws(600, switch_prob=0.9))
    assert kinds['mixup'] / 600 < 0.09 and kinds['cutmix'] / 600 > 0.3
    kinds = Counter(kind for kind, _ in draws(600, prob=0.4, **MIXUP))
    assert 0.14 < kinds['mixup'] / 600 < 0.26 and not kinds['cutmix']
    assert {kind for kind, _ in draws(50, prob=0)} == {'none'}


@pytest.mark.parametrize('alpha', [0.2, 0.8, 4.0])
def test_lambda_is_a_draw_from_beta(alpha):
    """Mean 1/2, variance 1 / (4 (2 alpha + 1))."""
    options = dict(mixup_alpha=alpha, cutmix_alpha=0)
    lams = torch.tensor([lam for kind, lam in draws(1600, **options)
                         if kind == 'mixup'])
    assert lams.mean().item() == pytest.approx(0.5, abs=0.05)
    assert lams.var().item() == pytest.approx(1 / (4 * (2 * alpha + 1)), rel=0.15)


def test_labels_of_a_batch_that_stays_are_soft_too():
    _, _, samples = MotionBlending(3, prob=0)(*constant_batch(3))
    assert_close(labels_of(samples), torch.eye(3))


def test_two_labels_are_mixed_as_one():
    imgs, motion, samples = constant_batch(4)
    pairs = [(0, 3), (1, 0), (2, 4), (1, 1)]
    for item, pair in zip(samples, pairs, strict=True):
        item.set_gt_label(list(pair))
    imgs, _, samples = MotionBlending((3, 5), **MIXUP)(imgs, motion, samples)
    verbs, nouns = labels_of(samples).split([3, 5], dim=1)
    # the mean of the samples' numbers is known from the frames
    weight = None
    for index, pair in enumerate(pairs):
        value = imgs[index].mean()
        for other, second in enumerate(pairs):
            if other == index:
                continue
            lam = (value - other) / (index - other)
            verb, noun = torch.zeros(3), torch.zeros(5)
            verb[pair[0]] += lam
            verb[second[0]] += 1 - lam
            noun[pair[1]] += lam
            noun[second[1]] += 1 - lam
            if torch.allclose(noun, nouns[index], atol=1e-5):
                assert_close(verb, verbs[index], atol=1e-5, rtol=0)
                weight = lam
    assert weight is not None and 0 < weight < 1


def test_soft_labels_stay_what_they_are():
    labels = [torch.tensor([0.25, 0.75, 1.0]), torch.tensor([1.0, 0.0, 0.5])]
    assert_close(soft_labels(labels, (2, 1)), torch.stack(labels))
    first, second = split_labels(labels, (2, 1))
    assert first.tolist() == [[0.25, 0.75], [1.0, 0.0]]
    assert second.tolist() == [[1.0], [0.5]]
    hard = [torch.tensor([1, 0]), torch.tensor([0, 2])]
    assert [part.tolist() for part in split_labels(hard, (2, 3))] == [
        [[1], [0]], [[0], [2]]]
    assert soft_labels(hard, (2, 3)).tolist() == [[0, 1, 1, 0, 0], [1, 0, 0, 0, 1]]


@pytest.mark.parametrize('labels,counts,words', [
    ([[4]], (4, ), r'label 4 must be 0 to 3, as num_classes=\(4,\)'),
    ([[-1]], (4, ), 'label -1 must be 0 to 3'),
    ([[1, 3]], (2, 3), 'label 3 of task 1 must be 0 to 2'),
    ([[1]], (2, 3), 'labels have 1 numbers, but num_classes=.2, 3. asks for 2'),
    ([[0.5, 0.5]], (2, 3), 'soft labels have 2 numbers, but .* asks for 5'),
    ([[1], [0.5, 0.5]], (2, ), r'one form, got \[1\] hard, \[2\] soft'),
    ([[[1]]], (2, ), 'one row of numbers'),
])
def test_labels_that_do_not_fit(labels, counts, words):
    labels = [torch.tensor(label) for label in labels]
    for function in (soft_labels, split_labels):
        with pytest.raises(ValueError, match=words):
            function(labels, counts)


@pytest.mark.parametrize('options,words', [
    (dict(num_classes=0), 'num_classes .* got 0'),
    (dict(num_classes=()), 'num_classes'),
    (dict(num_classes=(97, -1)), r'got \(97, -1\)'),
    (dict(num_classes=2, mixup_alpha=-1), 'mixup_alpha .* got -1'),
    (dict(num_classes=2, mixup_alpha=0, cutmix_alpha=0), 'blending=None'),
    (dict(num_classes=2, prob=1.5), 'prob .* 0 to 1, got 1.5'),
    (dict(num_classes=2, switch_prob=-0.5), 'switch_prob .* got -0.5'),
])
def test_options_of_blending_are_checked(options, words):
    with pytest.raises(ValueError, match=words):
        MotionBlending(**options)


def test_another_blending_is_refused():
    mmactions = dict(type='MixupBlending', num_classes=4)
    with pytest.raises(TypeError, match='must be a MotionBlending, got MixupBlending'):
        MotionDataPreprocessor(blending=mmactions)
    with pytest.raises(ValueError, match='mean and std .* both or neither'):
        MotionDataPreprocessor(mean=[0, 0, 0])


def spoil(batch, name, value):
    batch['inputs'][name] = value
    return batch


@pytest.mark.parametrize('change,words', [
    (lambda b: dict(b, inputs=b['inputs']['imgs']), 'a dict .*got list.*collect_keys'),
    (lambda b: dict(b, inputs=dict(imgs=b['inputs']['imgs'])), r"got \['imgs'\]"),
    (lambda b: spoil(b, 'flow', b['inputs']['motion']), r"'flow', 'imgs', 'motion'"),
    (lambda b: spoil(b, 'imgs', [b['inputs']['imgs'][0], sample(0, size=18)
                                 ['inputs']['imgs']]), 'imgs of a batch .* one shape'),
    (lambda b: spoil(b, 'motion', [m[0] for m in b['inputs']['motion']]),
     'motion of a batch must have one shape'),
    (lambda b: spoil(b, 'motion', [m[:, :, :2] for m in b['inputs']['motion']]),
     r'same clips and frames, got shapes 2 x \(1, 3, 4, 16, 16\) and 2 x \(1, 2, 2,'),
    (lambda b: spoil(b, 'motion', b['inputs']['motion'][:1]), 'and 1 x'),
])
def test_inputs_that_do_not_fit(change, words):
    batch = change(pseudo_collate([sample(0), sample(1)]))
    with pytest.raises(ValueError, match=words):
        MotionDataPreprocessor()(batch)


def test_other_cues_may_have_more_channels():
    batch = pseudo_collate([sample(0, channels=3)])
    assert MotionDataPreprocessor()(batch)['inputs']['motion'].shape[2] == 3
