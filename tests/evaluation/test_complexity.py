# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""Counts against numbers worked out by hand, and sizes read from configs."""
import pytest
import torch
import torch.nn.functional as F
from mmengine.config import Config
from torch import nn

from mmaction_tokenreduce.evaluation import Part, count_complexity, default_input_shape


class Apply(nn.Module):
    """A module without parameters that applies a function."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, *inputs):
        return self.function(*inputs)


def count(function, *shapes):
    """Complexity of a function on random tensors of the given shapes."""
    return count_complexity(Apply(function), tuple(torch.randn(s) for s in shapes))


PRODUCTS = {
    # q.k: 2*3*5*7 queries, heads and keys, 8 wide; attn.v: the same, 4 wide
    'attention': (F.scaled_dot_product_attention,
                  [(2, 3, 5, 8), (2, 3, 7, 8), (2, 3, 7, 4)], 2 * 3 * 5 * 7 * (8 + 4)),
    'attention_shared_heads': (
        lambda q, k, v: F.scaled_dot_product_attention(q, k, v, enable_gqa=True),
        [(2, 6, 5, 8), (2, 2, 7, 8), (2, 2, 7, 8)], 2 * 6 * 5 * 7 * 16),
    'attention_flash_cpu': (
        lambda q, k, v:
        torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(q, k, v)[0],
        [(2, 3, 5, 8)] * 3, 2 * 3 * 5 * 5 * 16),
    'linear': (F.linear, [(2, 5, 8), (4, 8)], 2 * 5 * 8 * 4),
    'linear_to_one': (F.linear, [(2, 5, 8), (8, )], 2 * 5 * 8),
    'bmm': (torch.bmm, [(2, 5, 8), (2, 8, 3)], 2 * 5 * 8 * 3),
    'baddbmm': (torch.baddbmm, [(2, 5, 3), (2, 5, 8), (2, 8, 3)], 2 * 5 * 8 * 3),
    'addbmm': (torch.addbmm, [(5, 3), (2, 5, 8), (2, 8, 3)], 2 * 5 * 8 * 3),
    'addmm': (torch.addmm, [(3, ), (5, 8), (8, 3)], 5 * 8 * 3),
    'matmul_broadcast': (torch.matmul, [(5, 8), (2, 4, 8, 3)], 2 * 4 * 5 * 8 * 3),
    'matmul_vector': (torch.matmul, [(8, ), (2, 8, 3)], 2 * 8 * 3),
    'mv': (torch.mv, [(5, 8), (8, )], 5 * 8),
    'dot': (torch.dot, [(8, ), (8, )], 8),
    'inner': (torch.inner, [(5, 8), (3, 8)], 5 * 8 * 3),
    'tensordot': (lambda a, b: torch.tensordot(a, b, dims=([1, 2], [0, 1])),
                  [(2, 5, 8), (5, 8, 3)], 2 * 5 * 8 * 3),
    'einsum': (lambda a, b: torch.einsum('bnhc, bmhc -> bhnm', a, b),
               [(2, 5, 3, 8), (2, 7, 3, 8)], 2 * 3 * 5 * 7 * 8),
    'einsum_ellipsis': (lambda a, b: torch.einsum('...ij,jk->...ik', a, b),
                        [(2, 3, 5, 8), (8, 4)], 2 * 3 * 5 * 8 * 4),
    'einsum_implicit': (lambda a, b: torch.einsum('ij,jk', a, b), [(5, 8), (8, 4)],
                        5 * 8 * 4),
    'einsum_permutes': (lambda a: torch.einsum('ij->ji', a), [(5, 8)], 0),
    # from the left: (i j)(j k), then (i k)(k l)
    'einsum_three': (
        lambda a, b, c: torch._VF.einsum('ij,jk,kl->il', [a, b, c]),
        [(2, 3), (3, 5), (5, 7)], 2 * 3 * 5 + 2 * 5 * 7),
    # along a path: (j k)(k l) first, then (i j)(j l)
    'einsum_three_path': (
        lambda a, b, c: torch._VF.einsum('ij,jk,kl->il', [a, b, c], path=[1, 2, 0, 1]),
        [(2, 3), (3, 5), (5, 7)], 3 * 5 * 7 + 2 * 3 * 7),
    'conv_same': (lambda x, w: F.conv1d(x, w, padding='same'), [(2, 4, 9), (6, 4, 3)],
                  2 * 6 * 9 * 4 * 3),
    'conv_transposed': (lambda x, w: F.conv_transpose2d(x, w, stride=2, groups=2),
                        [(2, 4, 5, 5), (4, 3, 2, 2)], 2 * 4 * 25 * 3 * 4),
    # 2 bags of 3 rows, 8 wide
    'embedding_bag': (
        lambda table, weight: F.embedding_bag(
            torch.zeros(2, 3, dtype=torch.long), table, per_sample_weights=weight,
            mode='sum'), [(10, 8), (2, 3)], 2 * 3 * 8),
    # 4 neighbours, 5 channels, 3 x 7 places; 8 neighbours in space and time
    'grid_sample': (lambda x, g: F.grid_sample(x, g, align_corners=False),
                    [(2, 5, 4, 6), (2, 3, 7, 2)], 2 * 5 * 3 * 7 * 4),
    'grid_sample_3d': (lambda x, g: F.grid_sample(x, g, align_corners=False),
                       [(2, 5, 4, 6, 6), (2, 3, 7, 2, 3)], 2 * 5 * 3 * 7 * 2 * 8),
    'layer_norm': (lambda x: F.layer_norm(x, (8, )), [(2, 5, 8)], 2 * 5 * 8 * 4),
    'layer_norm_affine': (lambda x, w: F.layer_norm(x, (8, ), w, w),
                          [(1, 2, 1, 3, 5, 8), (8, )], 2 * 3 * 5 * 8 * 5),
    'batch_norm': (lambda x, w: F.batch_norm(x, w, w.exp(), w, w),
                   [(2, 5, 3, 4, 6), (5, )], 2 * 5 * 3 * 4 * 6 * 2),
    'elementwise': (lambda x: (F.gelu(x) * 2 + x.exp()).mean(), [(2, 5)], 0),
}


@pytest.mark.parametrize('name', PRODUCTS)
def test_operations_cost_what_the_hand_says(name):
    function, shapes, expected = PRODUCTS[name]
    result = count(function, *shapes)
    assert result.flops == expected
    assert not result.not_counted


# The others make tensors on a CPU, or are made for CPUs alone.
@pytest.mark.parametrize('name', sorted(
    PRODUCTS.keys() - {'embedding_bag', 'attention_flash_cpu'}))
def test_the_meta_device_counts_alike(name):
    function, shapes, expected = PRODUCTS[name]
    inputs = tuple(torch.empty(shape, device='meta') for shape in shapes)
    result = count_complexity(Apply(function), inputs)
    assert result.flops == expected
    assert not result.not_counted


def test_convolutions_on_the_meta_device():
    """Grouped, strided, dilated, transposed, with bias: as on a CPU."""
    layers = [nn.Conv1d(4, 6, 3, stride=2, dilation=2, groups=2),
              nn.ConvTranspose1d(6, 4, 3, stride=2, output_padding=1, groups=2),
              nn.Unflatten(2, (-1, 2)), nn.Conv2d(4, 6, (3, 2), padding=(1, 0)),
              nn.Unflatten(3, (-1, 1)), nn.ConvTranspose3d(6, 2, 2, bias=False)]
    model = nn.Sequential(*layers)
    on_cpu = count_complexity(model, torch.randn(2, 4, 29))
    on_meta = count_complexity(model.to('meta'), torch.empty(2, 4, 29, device='meta'))
    assert on_meta == on_cpu
    assert list(on_cpu.operators) == ['convolution'] and len(on_cpu.parts) == 4
    assert all(part.flops for part in on_cpu.parts.values())


def test_a_convolution_without_a_batch_on_the_meta_device():
    conv, clip = nn.Conv2d(3, 4, 3), torch.zeros(3, 8, 8)
    on_cpu = count_complexity(conv, clip)
    assert count_complexity(conv.to('meta'), clip.to('meta')) == on_cpu


def test_grouped_convolution():
    conv = nn.Conv3d(8, 12, (3, 3, 3), stride=(1, 2, 2), padding=1, groups=4)
    result = count_complexity(conv, torch.randn(2, 8, 4, 6, 6))
    # 12 maps of 4 x 3 x 3, each element over 8/4 channels of a 27-wide kernel
    assert result.flops == 2 * 12 * 4 * 3 * 3 * 2 * 27
    assert result.params == 12 * 2 * 27 + 12
    assert result.operators == {'convolution': result.flops}


def test_multihead_attention_is_not_hidden_in_one_fused_call():
    module = nn.MultiheadAttention(8, 2, batch_first=True).eval()
    x = torch.randn(2, 5, 8)
    result = count_complexity(
        module, x, forward=lambda m, x: m(x, x, x, need_weights=False))
    assert result.flops == 2 * 5 * 8 * 8 * 4 + 2 * 5 * 5 * 8 * 2
    assert torch.backends.mha.get_fastpath_enabled()


@pytest.mark.parametrize(('function', 'op'), [
    (lambda x: x.gather(1, torch.zeros(2, 3, dtype=torch.long)), 'aten::gather'),
    (lambda x: x[torch.tensor([0, 0, 1])], 'aten::index'),
    (lambda x: x.topk(2).values, 'aten::topk'),
    (lambda x: x.sort().values, 'aten::sort'),
    (lambda x: x.softmax(-1), 'aten::softmax'),
    (lambda x: torch.cdist(x, x), 'aten::cdist'),
    (lambda x: F.avg_pool1d(x[None], 2), 'aten::avg_pool1d'),
])
def test_what_is_not_counted_is_listed(function, op):
    result = count(lambda x: function(x) + function(x), (2, 5))
    assert result.flops == 0
    assert result.not_counted == {op: 2}
    assert op in result.table()


def test_custom_function_is_listed():

    class Doubled(torch.autograd.Function):

        @staticmethod
        def forward(ctx, x):
            return x @ x

    result = count(Doubled.apply, (4, 4))
    assert result.flops == 0
    assert list(result.not_counted) == ['prim::PythonOp.Doubled']


class TwoLevels(nn.Module):
    """Work and parameters at the root, in a child, in a grandchild and below."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(3))
        self.body = nn.Module()
        self.body.token = nn.Parameter(torch.ones(5))
        self.body.blocks = nn.ModuleList(
            [nn.Sequential(nn.Linear(4, 4), nn.GELU()), nn.Linear(4, 4)])
        self.head = nn.Linear(4, 2)
        self.head.idle = nn.Identity()
        self.dropout = nn.Dropout(0.5)

    def forward(self, x):
        for block in self.body.blocks:
            x = block(x)
        if self.training:
            x = x @ x.mT @ x
        return {'scores': [self.head(self.dropout(x)), x @ x.mT], 'none': None}


def test_parts_are_two_levels_and_sum_to_the_total():
    result = count_complexity(TwoLevels(), torch.randn(1, 6, 4))
    assert result.parts == {
        '(model)': Part(3, 6 * 6 * 4),
        'body': Part(5, 0),
        'body.blocks': Part(2 * 20, 2 * 6 * 16),
        'head': Part(10, 6 * 8),
    }
    assert sum(part.flops for part in result.parts.values()) == result.flops
    assert sum(part.params for part in result.parts.values()) == result.params
    assert sum(result.operators.values()) == result.flops
    table = result.table()
    assert 'body.blocks' in table and 'not counted: nothing' in table


def test_parts_of_other_depths():
    x = torch.randn(1, 6, 4)
    whole = count_complexity(TwoLevels(), x)
    top = count_complexity(TwoLevels(), x, depth=1)
    assert top.parts == {'(model)': Part(3, 6 * 6 * 4), 'body': Part(45, 2 * 6 * 16),
                         'head': Part(10, 6 * 8)}
    deep = count_complexity(TwoLevels(), x, depth=4)
    assert deep.parts == {'(model)': Part(3, 6 * 6 * 4), 'body': Part(5, 0),
                          'body.blocks.0.0': Part(20, 6 * 16),
                          'body.blocks.1': Part(20, 6 * 16), 'head': Part(10, 6 * 8)}
    assert (top.flops, top.params) == (deep.flops, deep.params) == (
        whole.flops, whole.params)
    with pytest.raises(ValueError, match='depth=0: must be at least 1'):
        count_complexity(TwoLevels(), x, depth=0)


def test_counts_eval_mode_and_restores_the_training_flags():
    model = TwoLevels()
    model.head.eval()
    flags = [module.training for module in model.modules()]
    count_complexity(model, torch.randn(1, 6, 4))
    assert [module.training for module in model.modules()] == flags


def test_shared_modules_have_their_parameters_once_and_their_work_twice():
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU())
    model.append(model[0])
    result = count_complexity(model, torch.randn(3, 4))
    assert (result.params, result.flops) == (20, 2 * 3 * 16)
    assert result.parts == {'0': Part(20, 2 * 3 * 16)}


class Apart(nn.Module):
    """A linear layer whose work stands beside the total."""

    counted_apart = 'sampling'

    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(8, 4)

    def forward(self, x):
        return self.inner(x)


def test_work_beside_the_total_is_in_nothing_else():
    model = nn.Sequential(nn.Sequential(nn.Linear(8, 8), Apart()), nn.Linear(4, 2),
                          nn.LayerNorm(2))
    counted = count_complexity(model, torch.randn(3, 8))
    assert counted.apart == {'sampling': 3 * 8 * 4}
    assert counted.flops == 3 * (8 * 8 + 4 * 2 + 5 * 2)
    assert counted.operators == {'linear': 3 * (8 * 8 + 4 * 2), 'norm': 3 * 5 * 2}
    assert sum(part.flops for part in counted.parts.values()) == counted.flops
    assert counted.parts['0.1'] == Part(8 * 4 + 4, 0)
    assert counted.as_dict()['apart'] == {'sampling': 96e-9}
    assert 'beside the total' in counted.table()
    plain = count_complexity(nn.Linear(8, 8), torch.randn(3, 8))
    assert 'apart' not in plain.as_dict() and 'beside' not in plain.table()


def test_a_forward_pass_without_tensors_is_refused():
    with pytest.raises(TypeError, match='returns no tensor, but str'):
        count(lambda x: 'nothing', (2, 2))


def pipeline(*steps):
    return [dict(type='DecordInit'), *steps, dict(type='FormatShape')]


SAMPLE = dict(type='SampleFrames', clip_len=16, frame_interval=4, num_clips=5)
CROP = dict(type='CenterCrop', crop_size=224)
SHAPES = {
    'dataloader_first': (dict(
        test_pipeline=pipeline(SAMPLE, CROP),
        test_dataloader=dict(dataset=dict(pipeline=pipeline(
            dict(type='UniformSample', clip_len=32),
            dict(type='Resize', scale=(-1, 256)),
            dict(type='ThreeCrop', crop_size=192))))), (3, 32, 192, 192)),
    'variable': (dict(test_pipeline=pipeline(SAMPLE, CROP)), (3, 16, 224, 224)),
    'wrapped_dataset': (dict(test_dataloader=dict(dataset=dict(
        dataset=dict(pipeline=pipeline(SAMPLE, CROP))))), (3, 16, 224, 224)),
    'crops_and_resizes_are_width_first': (dict(test_pipeline=pipeline(
        SAMPLE, dict(type='CenterCrop', crop_size=(320, 240)))), (3, 16, 240, 320)),
    'last_step_wins': (dict(test_pipeline=pipeline(
        SAMPLE, CROP, dict(type='Resize', scale=(128, 96), keep_ratio=False))),
                       (3, 16, 96, 128)),
    'free_size_falls_back_to_val': (dict(
        test_pipeline=pipeline(SAMPLE, dict(type='Resize', scale=(-1, 256))),
        val_pipeline=pipeline(dict(SAMPLE, clip_len=8), CROP)), (3, 16, 224, 224)),
    'short_side_of_a_detector': (dict(
        test_pipeline=pipeline(SAMPLE, dict(type='Resize', scale=(1333, 288))),
        model=dict(backbone=dict(img_size=224))), (3, 16, 288, 288)),
    'bounds_before_a_crop': (dict(test_pipeline=pipeline(
        SAMPLE, dict(type='Resize', scale=(1333, 288)), CROP)), (3, 16, 224, 224)),
    'backbone': (dict(model=dict(backbone=dict(
        temporal_size=8, spatial_size=64, in_channels=2))), (2, 8, 64, 64)),
    'backbone_not_square': (dict(
        model=dict(backbone=dict(spatial_size=(64, 96))),
        test_pipeline=pipeline(SAMPLE)), (3, 16, 64, 96)),
}


@pytest.mark.parametrize('name', SHAPES)
def test_default_input_shape(name):
    config, expected = SHAPES[name]
    assert default_input_shape(config) == expected
    assert default_input_shape(Config(config)) == expected


@pytest.mark.parametrize(('config', 'missing'), [
    (dict(), 'no clip length and frame size in'),
    (dict(test_pipeline=pipeline(SAMPLE)), 'no frame size in'),
    (dict(val_pipeline=pipeline(CROP)), 'no clip length in'),
    (dict(test_pipeline=pipeline(
        SAMPLE, CROP, dict(type='RandomResizedCrop'))), 'no frame size in'),
])
def test_no_input_shape_asks_for_one(config, missing):
    with pytest.raises(ValueError, match=f'{missing}.*give --shape C T H W'):
        default_input_shape(config)
