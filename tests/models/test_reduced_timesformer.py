# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""ReducedTimeSformer against mmaction2's, the paper's equations, its own contracts."""
import pytest
import torch
import torch.nn.functional as F
from mmaction.registry import MODELS
from tiny_hosts import (
    CLIP,
    DIVIDED,
    HEADS,
    JOINT,
    MERGES,
    TINY,
    TYPES,
    C,
    N,
    T,
    dense_host,
    host,
    inputs_of,
    merging,
    noise,
    output,
    randomize,
    set_rates,
    spatial,
    temporal,
)
from torch.testing import assert_close


def attention_map(attn, x):
    """(L, L), mean over heads: one sequence (L, C) attends to itself."""
    weight, bias = attn.in_proj_weight, attn.in_proj_bias
    q, k = (x @ weight.T + bias).chunk(3, dim=-1)[:2]
    heads = [(a @ b.T / a.shape[-1]**0.5).softmax(-1)
             for a, b in zip(q.chunk(HEADS, -1), k.chunk(HEADS, -1), strict=True)]
    return torch.stack(heads).mean(0)


def attend(attn, x):
    """PyTorch's own function, (B, L, C) to the same."""
    x = x.transpose(0, 1)
    out, _ = F.multi_head_attention_forward(
        x, x, x, C, HEADS, attn.in_proj_weight, attn.in_proj_bias, None, None, False,
        0.0, attn.out_proj.weight, attn.out_proj.bias, need_weights=False)
    return out.transpose(0, 1)


def feed_forward(ffn, x):
    return ffn.layers[1](F.gelu(ffn.layers[0][0](x)))


def joint_layer(layer, x):
    """All attend to all by the spatial weights; the class token's attention (B, M)."""
    if hasattr(layer.attentions[-1], 'norm'):  # a divided layer
        norm1, norm2 = layer.attentions[1].norm, layer.ffns[0].norm
    else:
        norm1, norm2 = layer.norms
    attn = layer.attentions[-1].attn
    normed = norm1(x)
    row = torch.stack([attention_map(attn, clip)[0, 1:] for clip in normed])
    x = x + attend(attn, normed)
    return x + feed_forward(layer.ffns[0], norm2(x)), row


def time_major(x):
    """Patch-major tokens (B, N*T, C) as mmaction2 stores them, as rows (B*T, N, C)."""
    return x.unflatten(1, (N, T)).transpose(1, 2).flatten(0, 1)


@torch.no_grad()
def before_first_merge(dense, x, number):
    """Layers 0 ... number-1 of mmaction2's model: class token, rows, scores (R, N).

    The scores are computed from what the last layer's spatial attention was given.
    """
    last = dense.transformer_layers.layers[number - 1]
    given, left = inputs_of(last.attentions[-1]), []
    last.register_forward_hook(lambda module, args, out: left.append(out))
    dense(x)
    query = given[0][0]
    frames = time_major(query[:, 1:])
    if dense.attention_type == JOINT:  # already normalised
        tokens = torch.cat((query[:, :1], frames.reshape(len(x), -1, C)), 1)
        scores = torch.stack([attention_map(last.attentions[0].attn, clip)[0, 1:]
                              for clip in tokens]).view(-1, N)
    else:
        space, scores = last.attentions[1], []
        for row, frame in enumerate(frames):
            copy_of_cls = query[row // T, :1]
            normed = space.norm(torch.cat((copy_of_cls, frame)))
            scores.append(attention_map(space.attn, normed)[0, 1:])
        scores = torch.stack(scores)
    return left[0][:, :1], time_major(left[0][:, 1:]), scores


def embedded_positions(model):
    """(T*N, C), space + time, one by one."""
    return torch.stack([model.pos_embed[0, 1 + n] + model.time_embed[0, t]
                        for t in range(T) for n in range(N)]).detach()


def twins(kind, reducers):
    """mmaction2's dense model and ours with reducers, the same random weights."""
    dense, reduced = randomize(dense_host(attention_type=kind)), host(kind, reducers)
    randomize(reduced).load_state_dict(dense.state_dict(), strict=False)
    return dense, reduced


@pytest.mark.parametrize('kind', [DIVIDED, JOINT, 'space_only'])
@pytest.mark.parametrize('kwargs', [
    dict(), dict(num_frames=3, img_size=(16, 40), norm_cfg=dict(type='LN', eps=0.1)),
], ids=str)
def test_dense_is_the_model_of_mmaction2(kind, kwargs):
    dense = randomize(dense_host(attention_type=kind, **kwargs))
    reduced = host(kind, **kwargs).eval()
    reduced.load_state_dict(dense.state_dict())
    frames, size = kwargs.get('num_frames', 4), kwargs.get('img_size', (32, 32))
    x = torch.randn(2, 3, frames, *size)
    want = output(dense, x)
    assert want.std() > 0.1
    assert_close(output(reduced, x), want, rtol=1e-4, atol=1e-5)


@TYPES
def test_keeping_all_is_the_identity(kind):
    dense = randomize(host(kind))
    reduced = host(kind, [
        temporal(0, 1), spatial(1, 1), merging(1, 'clip', ratio=0), merging(2, ratio=0),
        temporal(3, 1, strategy='cls_attention')]).eval()
    reduced.load_state_dict(dense.state_dict())  # strict: nothing more, nothing less
    x = torch.randn(2, *CLIP)
    assert torch.equal(output(reduced, x), output(dense, x))


@TYPES
@pytest.mark.parametrize('scope', ['frame', 'clip'])
def test_the_first_merge_gets_what_the_layer_before_left(kind, scope):
    """Tokens, space + time embeddings, and its class token's attention."""
    dense, reduced = twins(kind, [merging(2, scope)])
    calls = inputs_of(reduced.reducers[0])
    x = torch.randn(2, *CLIP)
    output(reduced, x)
    (tokens, positions, scores), = calls
    _, want, want_scores = before_first_merge(dense, x, 2)
    want_positions = embedded_positions(reduced).repeat(2, 1, 1)
    if scope == 'frame':
        want_positions = want_positions.view(-1, N, C)
    else:
        want, want_scores = want.view(2, -1, C), want_scores.view(2, -1)
    assert_close(tokens, want, rtol=1e-4, atol=1e-4)
    assert_close(positions, want_positions)
    assert_close(scores, want_scores, rtol=1e-3, atol=1e-6)
    assert scores.std() > 0.1 * scores.mean()


@TYPES
def test_the_model_of_the_paper_by_its_equations(kind):
    """Dense to layer 2, frames merged, joint layer 2, clip merged, joint layer 3."""
    dense, reduced = twins(kind, MERGES)
    frame, clip = reduced.reducers
    calls = inputs_of(clip)
    x = torch.randn(2, *CLIP)
    got = output(reduced, x)
    cls, rows, scores = before_first_merge(dense, x, 2)
    positions = embedded_positions(reduced).repeat(2, 1, 1).view(-1, N, C)
    with torch.no_grad():
        y, moved = frame(rows, positions, scores)
        assert y.shape == (2 * T, N // 2, C)
        moved = moved.reshape(2, -1, C)
        layers = dense.transformer_layers.layers
        tokens, row = joint_layer(layers[2], torch.cat((cls, y.reshape(2, -1, C)), 1))
        y, _ = clip(tokens[:, 1:], moved, row)
        assert y.shape == (2, T * N // 4, C)
        tokens, _ = joint_layer(layers[3], torch.cat((tokens[:, :1], y), 1))
        want = dense.norm(tokens)[:, 0]
    given = calls[0]
    assert_close(given[1], moved, rtol=1e-4, atol=1e-4)  # P of the first
    assert_close(given[2], row, rtol=1e-3, atol=1e-5)
    assert_close(got, want, rtol=1e-3, atol=1e-4)


def test_selection_before_merging_carries_positions_and_scores():
    """What arrives at a merge belongs to the tokens that were kept, in their order."""
    _, reduced = twins(DIVIDED, [
        temporal(1, 0.75), spatial(2, 0.5), merging(2), temporal(2, 0.7)])
    seen = {}
    for number, reducer in enumerate(reduced.reducers):
        if number != 2:
            reducer.choose.register_forward_hook(
                lambda module, args, out, number=number: seen.update({number: out}))
    calls, attended = inputs_of(reduced.reducers[2]), []
    reduced.transformer_layers.layers[1].register_forward_hook(
        lambda module, args, out: attended.append(out))
    output(reduced, torch.randn(2, *CLIP))
    tokens, positions, scores = calls[0]
    table, (left, row) = embedded_positions(reduced), attended[0]
    assert tokens.shape == (2 * 2, 2 * 2, C)  # of 2 clips with 2 frames
    kept = 0
    for b in range(2):
        frames = seen[0].index[b]  # 3 of 4
        for i, t in enumerate(seen[3].index[b].tolist()):  # 2 of these 3
            corner = int(seen[1].index[2 * b + i])
            for j in range(4):
                place = (corner // 3 + j // 2) * 4 + corner % 3 + j % 2
                kept += 1
                assert_close(positions[2 * b + i, j], table[frames[t] * N + place])
                assert_close(tokens[2 * b + i, j], left[b, 1 + t * N + place])
                assert_close(scores[2 * b + i, j], row[b, t * N + place])
    assert kept == 16


@TYPES
def test_class_attention_that_selects_is_that_of_the_layer_before(kind):
    dense, reduced = twins(kind, [
        temporal(2, 0.5, strategy='cls_attention'), spatial(3, 0.5)])
    seen = []
    reduced.reducers[0].choose.register_forward_hook(
        lambda module, args, out: seen.append(out))
    x = torch.randn(2, *CLIP)
    output(reduced, x)
    scores = before_first_merge(dense, x, 2)[2]
    best = scores.view(2, T, N).mean(2).topk(2).indices.sort().values
    assert seen[0].index.tolist() == best.tolist()


@TYPES
@pytest.mark.parametrize('reducers', [
    MERGES, [merging(0, filter=False), merging(1), merging(3, 'clip')],
    [merging(2, strategy='random'), merging(3, 'clip', strategy='random')],
    [merging(1, 'clip', strategy='bipartite'), merging(2, 'clip', motion=False)],
    [merging(2, filter=False, ratio=0.3), merging(2, 'clip', filter=False)],
    [temporal(0, 0.75), spatial(1, 0.5), temporal(2, 0.7), merging(2),
     merging(3, 'clip')],
    [temporal(1, 0.5, strategy='gumbel'), spatial(3, 0.6, unit='token')],
], ids=['paper', 'three', 'random', 'bipartite', 'one place', 'selected', 'no merge'])
def test_any_reducers_train(kind, reducers):
    """Every parameter is used; temporal_fc starts at zero, hence random weights."""
    model = randomize(host(kind, reducers)).train()
    out = model(torch.randn(2, *CLIP))
    out.square().sum().backward()
    assert out.shape == (2, C)
    for name, parameter in model.named_parameters():
        assert parameter.grad.isfinite().all(), name
        # min-max normalisation takes a shift of all scores out
        assert parameter.grad.any() or name.endswith('score_net.head.4.bias'), name


@TYPES
def test_views_of_a_batch_do_not_mix(kind):
    model = randomize(host(kind, [temporal(1, 0.75), *MERGES]))
    x = torch.randn(3, *CLIP)
    together = output(model, x)
    assert_close(together[1:2], output(model, x[1:2]), rtol=1e-4, atol=1e-5)
    assert (together[0] - together[1]).abs().max() > 1e-2


@pytest.mark.parametrize('strategy', ['orthogonal', 'random', 'bipartite'])
def test_evaluation_repeats_whatever_the_seed(strategy):
    model = randomize(host(reducers=[merging(2, strategy=strategy),
                                     merging(3, 'clip', strategy=strategy)]))
    x = torch.randn(1, *CLIP)
    first = output(model, x)
    torch.manual_seed(99)
    assert torch.equal(output(model, x), first)


@TYPES
def test_activation_checkpointing_changes_nothing(kind):
    x, grads, losses = torch.randn(2, *CLIP), [], []
    for with_cp in (False, True):
        torch.manual_seed(7)
        model = randomize(host(kind, [temporal(1, 0.75), *MERGES], dropout_ratio=0.1,
                               with_cp=with_cp))
        calls = [inputs_of(layer) for layer in model.transformer_layers.layers]
        loss = model.train()(x).square().sum()
        loss.backward()
        assert [len(layer) for layer in calls] == [1 + with_cp] * 4
        losses.append(loss.detach())
        grads.append([p.grad for p in model.parameters()])
    assert_close(losses[0], losses[1], rtol=0, atol=0)
    assert_close(grads[0], grads[1])


@pytest.mark.parametrize('kind,where', [
    (kind, where) for kind, attentions in ((DIVIDED, 2), (JOINT, 1)) for where in (
        'drop_after_pos', 'drop_after_time', 'ffns', *(
            rf'attentions\.{i}\.{part}' for i in range(attentions)
            for part in ('attn$', 'proj_drop', 'dropout_layer')))], ids=str)
def test_as_much_is_dropped_in_training_as_by_mmaction2(kind, where):
    """Of the class token and the others, by each kind of dropout alone."""
    dense, reduced = twins(kind, ())
    clip, values = torch.randn(1, *CLIP), []
    for model in (dense, reduced):
        set_rates(model, 0.5, where)
        values.append(noise(model, model.transformer_layers.layers[3], clip))
    assert values[0].max() > 0.1
    assert_close(values[1], values[0], rtol=0.1, atol=0.01)


@TYPES
def test_nothing_is_dropped_in_evaluation(kind):
    dense, reduced = twins(kind, ())
    for model in (dense, reduced):
        set_rates(model, 0.5)
    x = torch.randn(2, *CLIP)
    assert_close(output(reduced, x), output(dense, x), rtol=1e-4, atol=1e-5)
    merged = randomize(host(kind, MERGES))  # joint attention in divided layers
    want = output(merged, x)
    set_rates(merged, 0.5)
    assert torch.equal(output(merged, x), want)
    assert not torch.allclose(output(merged.train(), x), want, atol=1e-2)


def test_compiles_without_a_graph_break():
    model = randomize(host(reducers=[temporal(0, 0.75), merging(1), merging(2, 'clip')],
                           num_transformer_layers=3))
    compiled = torch.compile(model, backend='aot_eager', fullgraph=True)
    x = torch.randn(1, *CLIP)
    assert_close(output(compiled, x), output(model, x), rtol=1e-4, atol=1e-5)


@TYPES
def test_works_under_autocast(kind):
    model = randomize(host(kind, MERGES)).train()
    seen = inputs_of(model.reducers[1])
    with torch.autocast('cpu', torch.bfloat16):
        out = model(torch.randn(2, *CLIP))
        out.float().square().sum().backward()
    assert all(p.grad.isfinite().all() for p in model.parameters())
    # the residual stream, positions and scores stay in float32
    assert [part.dtype for part in seen[0]] == [torch.float32] * 3


def test_bad_options():
    with pytest.raises(ValueError, match=(
            r"reducers\[0\] \(SpatialSelection\) before=0: strategy='cls_attention' can"
            'not serve here: no attention has been computed there yet')):
        host(reducers=[spatial(0, 0.5, strategy='cls_attention')])
    for reducer in (merging(2), temporal(2, 0.5)):
        with pytest.raises(ValueError, match="attention_type='space_only' takes no red"
                           'ucers: .*; allowed are divided_space_time, joint_space_t'):
            host('space_only', [reducer])
    with pytest.raises(TypeError, match='dropout_ration'):
        MODELS.build(dict(type='ReducedTimeSformer', **TINY, dropout_ration=0.1))
    with pytest.raises(ValueError, match='ratio=0.96 leaves none of 16 tokens'):
        host(reducers=[merging(2, ratio=0.96)])(torch.randn(1, *CLIP))


@pytest.mark.parametrize('size', [(8, 32, 32), (2, 32, 32), (4, 40, 32)], ids=str)
def test_a_clip_of_another_size_is_named(size):
    with pytest.raises(ValueError, match=(
            fr'ReducedTimeSformer: clips of {"x".join(map(str, size))} \(T x H x W\), '
            r'the position embeddings are for 4x32x32 \(num_frames, img_size\)')):
        host(reducers=MERGES)(torch.randn(1, 3, *size))


def test_clips_without_a_batch_are_named():
    with pytest.raises(ValueError, match=(
            r'ReducedTimeSformer: clips must be \(B, 3, T, H, W\), got shape '
            r'\(3, 4, 32, 32\)')):
        host()(torch.randn(*CLIP))
