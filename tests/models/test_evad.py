# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""The detector: what it reads and writes, what it stands, how it trains."""
import math

import pytest
import torch
from mmaction.registry import MODELS
from mmengine.optim import OptimWrapper
from tiny_evad import CLASSES, clip, config, detector, random_boxes, sample
from torch.testing import assert_close

from mmaction_tokenreduce.engine import CPUAmpOptimWrapper
from mmaction_tokenreduce.models import mmdet_parts
from mmaction_tokenreduce.ops.positions import resize_positions

LINEAR = dict(type='LinearActionHead', in_channels=32, num_classes=CLASSES)


def randomize(model, std=0.1):
    """Parameters at which every part matters; nothing is dropped at random."""
    for name, parameter in model.named_parameters():
        if 'proposal_bboxes' not in name:
            torch.nn.init.normal_(parameter, std=std)
    return model.eval()


def batch(*clips, samples=None):
    return dict(inputs=list(clips), data_samples=samples or [
        sample(random_boxes(2, *c.shape[2:])) for c in clips])


def test_predictions_as_mmaction2_wants_them():
    model = randomize(detector(person_thr=0.5))
    with torch.no_grad():
        results = model.test_step(batch(clip(64, 96), clip(50, 70)))
        data = model.data_preprocessor(batch(clip(64, 96)))
        persons, boxes, logits = model(**data)
    assert persons.shape == (1, 10, 2) and boxes.shape == (1, 10, 4)
    assert logits.shape == (1, 10, CLASSES)
    for result in results:
        found = result.pred_instances
        assert found.scores.shape == (len(found.bboxes), CLASSES + 1)
        assert not found.scores[:, 0].any()
        assert 0 <= found.bboxes.min() and found.bboxes.max() <= 1
        assert (found.person_scores >= 0.5).all() or len(found.person_scores) == 10


def test_predictions_are_those_of_the_last_stage_and_depth():
    model = randomize(detector(person_thr=0.0))
    data = batch(clip(50, 70), samples=[sample(random_boxes(1, 50, 70))])
    with torch.no_grad():
        (result, ) = model.test_step(data)
        persons, boxes, logits = model(**model.data_preprocessor(data))
    found = result.pred_instances
    assert_close(found.person_scores, persons[0].softmax(-1)[:, 0])
    assert_close(found.scores[:, 1:], logits[0].sigmoid())
    x, y = boxes[0, :, 0::2] / 70, boxes[0, :, 1::2] / 50
    assert_close(found.bboxes[:, 0::2], x.clamp(0, 1))
    assert_close(found.bboxes[:, 1::2], y.clamp(0, 1))


@pytest.mark.parametrize('weighted', [False, True])
def test_boxes_are_given_above_the_threshold_or_all(weighted):
    model = randomize(detector(person_thr=0.9, weigh_by_person=weighted))
    data = batch(clip())
    logits = torch.tensor([[3.0, 0.0]] * 4 + [[0.0, 3.0]] * 6)  # 0.953 and 0.047
    model.localizer.stages[-1].register_forward_hook(
        lambda module, args, out: (logits.unsqueeze(0), *out[1:]))
    with torch.no_grad():
        found = model.test_step(data)[0].pred_instances
        assert len(found.bboxes) == 4
        model.person_thr = 0.96
        every = model.test_step(data)[0].pred_instances
        assert len(every.bboxes) == 10
        model.weigh_by_person = False
        plain = model.test_step(data)[0].pred_instances
    factor = logits.softmax(-1)[:, :1] if weighted else 1
    assert_close(every.scores, plain.scores * factor)
    assert_close(found.scores, every.scores[:4])


def gradients_after(model, data, wrapper=OptimWrapper):
    optimizer = wrapper(torch.optim.SGD(model.parameters(), lr=0.0))
    optimizer.initialize_count_status(model, 0, 1)
    with optimizer.optim_context(model):
        losses = model(**model.data_preprocessor(data, True), mode='loss')
    total, _ = model.parse_losses(losses)
    total.backward()
    return losses, {name: p.grad for name, p in model.named_parameters()}


@pytest.mark.parametrize('keep', [(1, 0.7, 1, 0.7), (1, 1, 1, 1)])
def test_every_parameter_gets_a_gradient(keep):
    # Strides for which boxes of these clips are of all levels.
    model = randomize(detector(keep=keep))
    model.localizer.roi_align.strides = (1, 2, 4, 8)  # boxes are read from all maps
    boxes = model.localizer.proposals.init_proposal_bboxes.weight.data
    centre, size = boxes.chunk(2, 1)
    centre.uniform_(0.3, 0.7)
    size.copy_(torch.linspace(0.05, 1.8, 10).unsqueeze(1))
    losses, grads = gradients_after(model.train(), batch(clip(), clip(48, 80)))
    assert all(value.isfinite() for value in losses.values())
    without = {name for name, grad in grads.items() if not grad.any()}
    # Everything is kept: nothing reads what stands for dropped places.
    assert without == ({'action_head.mask_token'} if min(keep) == 1 else set())


@pytest.mark.parametrize('cfg', [config(), config() | dict(action_head=LINEAR)],
                         ids=['decoder', 'linear'])
def test_clips_without_actors_give_gradients_too(cfg):
    model = randomize(MODELS.build(cfg)).train()
    data = batch(clip(), samples=[sample([])])
    losses, grads = gradients_after(model, data)
    assert all(grad is not None and grad.isfinite().all() for grad in grads.values())
    assert all(value == 0 for name, value in losses.items()
               if not name.endswith('loss_person'))
    assert grads['localizer.stages.0.fc_cls.weight'].any()


def test_forty_actors_and_boxes_at_the_border():
    model = randomize(detector(localizer=dict(num_proposals=50))).train()
    many = random_boxes(40)
    border = torch.tensor([[0., 0, 96, 64], [-3, -2, 10, 12], [90, 60, 96, 64]])
    data = batch(clip(), clip(), samples=[sample(many), sample(border)])
    losses, grads = gradients_after(model, data)
    assert all(value.isfinite() for value in losses.values())
    assert all(grad.isfinite().all() for grad in grads.values())


def test_too_many_actors_name_the_option():
    model = randomize(detector()).train()
    with pytest.raises(ValueError, match='num_proposals=10: a clip has 11 actors'):
        gradients_after(model, batch(clip(), samples=[sample(random_boxes(11))]))


def test_labels_that_do_not_fit_name_the_clip():
    model = detector()
    data = batch(clip(), samples=[sample(random_boxes(1), torch.ones(1, 81),
                                         img_key='abc,0910')])
    with pytest.raises(ValueError, match='num_classes=5: clip abc,0910 has labels of '
                                         r'shape \(1, 81\)'):
        gradients_after(model, data)


def test_masked_padding_changes_nothing():
    """What padding holds does not matter; without the mask it does."""
    model = randomize(detector(keep=(1, 1, 1, 1), mask_padding=True), std=0.3)
    clips = model.data_preprocessor(batch(clip(64, 64)))
    data = torch.nn.functional.pad(clips['inputs'], (0, 64, 0, 32))
    noise = data.clone()
    noise[..., 64:, :] = noise[..., :, 64:] = 7.0
    samples = clips['data_samples']
    with torch.no_grad():
        logits = [model.action_head(*head_inputs(model, x, samples))[-1]
                  for x in (data, noise)]
        model.mask_padding = False
        unmasked = [model.action_head(*head_inputs(model, x, samples))[-1]
                    for x in (data, noise)]
    assert_close(*logits)
    assert not torch.allclose(*unmasked, atol=1e-2)


def head_inputs(model, inputs, samples):
    """Clip, boxes that lie inside of the image, and sizes."""
    sizes = model._sizes(inputs, samples)
    inside = torch.tensor([[[4.0, 4.0, 40.0, 44.0]]])
    return model.encode(inputs, sizes), inside, sizes


def test_masked_padding_is_dropped_first():
    model = randomize(detector(keep=(1, 0.7, 1, 1), mask_padding=True))
    data = model.data_preprocessor(batch(clip(64, 64), clip(64, 128)))
    sizes = model._sizes(data['inputs'], data['data_samples'])
    encoded = model.encode(data['inputs'], sizes)
    kept = encoded.places[0, 32:] % 8  # beyond the keyframe, by column
    count = math.ceil(0.7 * 128) - 32
    assert encoded.valid[0, 32:].sum() == min(count, 48)  # 3 frames of 16 hold image
    assert (kept[encoded.valid[0, 32:]] < 4).all()


def test_odd_sizes_are_padded_and_read_back():
    model = randomize(detector(person_thr=0.0))
    shapes = [(37, 91), (64, 33), (64, 96)]
    with torch.no_grad():
        results = model.test_step(batch(*(clip(*shape) for shape in shapes)))
    for result, shape in zip(results, shapes, strict=True):
        assert result.img_shape == shape and result.batch_input_shape == (64, 96)
        assert result.pred_instances.bboxes.max() <= 1


@pytest.mark.parametrize('masked', [False, True])
def test_clips_of_other_shapes_in_a_batch_change_nothing(masked):
    """Each is padded to 64x96 alone, too; boxes are shares of its own image."""
    model = randomize(detector(person_thr=0.0, mask_padding=masked))
    clips = [clip(37, 91), clip(64, 70), clip(50, 96)]
    with torch.no_grad():
        together = model.test_step(batch(*clips))
        alone = [model.test_step(batch(one))[0] for one in clips]
    for got, want in zip(together, alone, strict=True):
        for key in ('bboxes', 'scores', 'person_scores'):
            assert_close(got.pred_instances[key], want.pred_instances[key])


def test_kept_tokens_stand_at_their_own_places_with_their_own_positions():
    """With remap='place': what the decoder gets, looked up token by token."""
    model = randomize(detector(head=dict(remap='place')))
    head, seen = model.action_head, {}
    head.pooling.register_forward_pre_hook(
        lambda module, args: seen.update(restored=args[0]))
    head.decoder.register_forward_pre_hook(
        lambda module, args: seen.update(context=args[0]))
    data = model.data_preprocessor(batch(clip(64, 64), clip(64, 64)))
    with torch.no_grad():
        clips = model.encode(data['inputs'], model._sizes(data['inputs'], None))
        model(**data)
        tokens = head.project(clips.tokens)
    assert (clips.places[:, 16:].diff() < 0).any()  # not in ascending order
    for b in range(2):
        kept = {}
        for m, place in enumerate(clips.places[b].tolist()):
            kept[place] = tokens[b, m] + head.positions[place]
            assert_close(seen['context'][b, m], kept[place])
        for place in range(64):
            want = kept.get(place, head.mask_token[0, 0] + head.positions[place])
            assert_close(seen['restored'][b, place], want)
        assert len(kept) == clips.tokens.shape[1] < 64


def test_zeros_in_dropped_places():
    model = randomize(detector(head=dict(dropped_value='zero')))
    assert model.action_head.mask_token is None
    seen = []
    model.action_head.pooling.register_forward_pre_hook(
        lambda module, args: seen.append(args[0]))
    data = model.data_preprocessor(batch(clip(64, 64)))
    with torch.no_grad():
        places = model.encode(data['inputs'], torch.tensor([[64., 64.]])).places[0]
        model(**data)
    dropped = sorted(set(range(64)) - set(places.tolist()))
    assert_close(seen[0][0, dropped], model.action_head.positions[dropped])


def test_all_tokens_as_context():
    model = randomize(detector(head=dict(context='all'), backbone=dict(
        return_dropped=True), mask_padding=True))
    seen = []
    model.action_head.decoder.register_forward_pre_hook(
        lambda module, args: seen.append(args))
    data = model.data_preprocessor(batch(clip(64, 64), clip(64, 96)))
    with torch.no_grad():
        model(**data)
        encoded = model.encode(data['inputs'], model._sizes(
            data['inputs'], data['data_samples']))
    context, _, valid, _ = seen[0]
    assert context.shape[1] == 4 * 4 * 6
    places = torch.cat((encoded.places, encoded.dropped[1]), 1)
    assert_close(places.sort(1).values, torch.arange(96).expand(2, -1))
    tokens = torch.cat((encoded.tokens, encoded.dropped[0]), 1)
    positions = resize_positions(model.action_head.positions, (4, 4, 4), (4, 4, 6))
    assert_close(context, model.action_head.project(tokens) + positions[places])
    assert_close(valid[0], places[0] % 6 < 4)
    assert valid[1].all()


def test_a_linear_head_pools_zeros_for_dropped_places():
    model = randomize(MODELS.build(config() | dict(action_head=LINEAR)))
    seen = []
    model.action_head.pooling.register_forward_hook(
        lambda module, args, out: seen.append((args[0], out)))
    data = model.data_preprocessor(batch(clip(64, 64)))
    with torch.no_grad():
        encoded = model.encode(data['inputs'], torch.tensor([[64., 64.]]))
        logits = model(**data)[2]
    restored, pooled = seen[0]
    assert_close(restored[0, encoded.places[0]], encoded.tokens[0])
    assert (restored[0].abs().sum(1) == 0).sum() == 64 - encoded.tokens.shape[1]
    head = model.action_head.classifier
    assert_close(logits, pooled @ head.weight.T + head.bias)


def test_bfloat16_keeps_boxes_and_losses_in_float32():
    model = randomize(detector()).train()
    seen = []
    model.localizer.register_forward_hook(lambda module, args, out: seen.extend(out))
    losses, grads = gradients_after(model, batch(clip(), clip()), CPUAmpOptimWrapper)
    assert all(stage.boxes.dtype == stage.logits.dtype == torch.float32
               for stage in seen)
    assert all(value.dtype == torch.float32 and value.isfinite()
               for value in losses.values())
    assert all(grad.dtype == torch.float32 and grad.isfinite().all()
               for grad in grads.values())


def test_recomputing_gives_the_same_losses_and_gradients():
    model = randomize(detector(backbone=dict(with_cp=True))).train()
    data = batch(clip())
    got = gradients_after(model, dict(data))
    model.zero_grad()
    model.backbone.with_cp = False
    want = gradients_after(model, dict(data))
    for a, b in zip(got, want, strict=True):
        for name in a:
            assert_close(a[name], b[name], msg=lambda m, n=name: n + m)


def test_initial_boxes_are_the_whole_image():
    model = detector()
    sizes = torch.tensor([[50.0, 70.0], [64.0, 96.0]])
    boxes = model.localizer._initial_boxes(sizes)
    assert_close(boxes, torch.tensor([[0., 0, 70, 50], [0, 0, 96, 64]]).unsqueeze(
        1).expand(-1, 10, -1))


def test_learned_sizes_below_zero_do_not_turn_boxes_inside_out():
    """AVA's evaluation would refuse such boxes, after hours."""
    model = detector().eval()
    sizes = model.localizer.proposals.init_proposal_bboxes.weight.data[:, 2:]
    pyramid = [torch.randn(1, 32, side, side) for side in (16, 8, 4, 2)]
    expected = model.localizer(pyramid, torch.tensor([[64, 64]]))
    sizes[::2] *= -1
    sizes[1::4, 0] *= -1
    for found, right in zip(model.localizer(pyramid, torch.tensor([[64, 64]])),
                            expected, strict=True):
        torch.testing.assert_close(found.boxes, right.boxes)
        assert (found.boxes[..., 2:] >= found.boxes[..., :2]).all()


def test_boxes_learn_from_their_own_stage_only():
    model = randomize(detector()).train()
    sizes = torch.tensor([[64.0, 96.0]])
    maps = [torch.randn(1, 32, 64 // s, 96 // s) for s in (4, 8, 16, 32)]
    stages = model.localizer(maps, sizes)
    first = model.localizer.stages[0].fc_reg.weight
    grads = [torch.autograd.grad(stage.boxes.sum(), first, retain_graph=True,
                                 allow_unused=True)[0] for stage in stages]
    assert grads[0].any() and grads[1] is None


def test_without_mmdet_the_install_command_is_given(monkeypatch):
    monkeypatch.setattr(mmdet_parts, 'find_spec', lambda name: None)
    with pytest.raises(ImportError, match='EVAD is built from parts of mmdet, which is '
                                          'not installed: pip install "mmdet'):
        MODELS.build(config())
    with pytest.raises(ImportError, match='SparseLocalizer is built from parts'):
        MODELS.build(dict(type='SparseLocalizer', _scope_='mmaction'))


@pytest.mark.parametrize('change,message', [
    (dict(person_thr=1.5), r'person_thr=1.5: must be in \[0, 1\]'),
    (dict(backbone=dict(out_indices=None)), 'backbone.out_indices must name'),
    (dict(head=dict(context='all')), "needs backbone.return_dropped=True"),
    (dict(head=dict(remap='ascending')), "remap='ascending': allowed are place, "
     'released'),
    (dict(head=dict(context='all', remap='released')), "known for context='kept' only"),
    (dict(head=dict(dropped_value='nan')), 'allowed are mask_token, zero'),
    (dict(head=dict(depth=0)), 'ContextRefinementHead: depth=0'),
    (dict(head=dict(roi_extension=(0.4, -1))), 'ContextRefinementHead: roi_extension'),
    (dict(head=dict(num_classes=0)), 'num_classes=0: must be a whole number'),
    (dict(head=dict(stride=8)), 'action_head.stride=8: a token of the backbone is '
     '16x16 pixels'),
    (dict(localizer=dict(strides=(8, 16, 32, 64))), r'localizer.strides=\(8, 16, 32, '
     r'64\): the maps of KeyframePyramid have 4, 8, 16, 32'),
    (dict(backbone=dict(patch_size=8)), 'action_head.stride=16: a token of the '
     'backbone is 8x8 pixels'),
    (dict(keep=(1, 1, 1, 1), backbone=dict(reducers=[dict(
        type='KeyframePruning', within=1, keep=0.7, unified=True)]),
        head=dict(remap='released')), "remap='released' needs the tokens of the "
     'keyframe')])
def test_bad_arguments(change, message):
    with pytest.raises(ValueError, match=message):
        MODELS.build(config(**change))


@pytest.mark.parametrize('part,other', [
    ('localizer', dict(type='KeyframePyramid')),
    ('action_head', dict(type='SparseLocalizer', num_proposals=2))])
def test_parts_of_another_kind(part, other):
    with pytest.raises(ValueError, match=f'EVAD: {part} must be a '):
        MODELS.build(config() | {part: other})


def test_bad_calls():
    model = detector()
    with pytest.raises(ValueError, match="mode='train': allowed are 'tensor'"):
        model(torch.zeros(1, 3, 8, 64, 64), mode='train')
    model.action_head.grid = (2, 4, 4)
    with pytest.raises(ValueError, match=r'grid=\(2, 4, 4\): the clip has 4 token '
                                         'frames'):
        model(torch.zeros(1, 3, 8, 64, 64))
    with pytest.raises(ValueError, match='are for 4 maps, got 3'):
        model.neck[0](model.neck[0].scales[:3])
