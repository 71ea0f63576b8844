# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""Score networks against the release and against eq. 2-3."""
import pytest
import torch
from torch.testing import assert_close

from mmaction_tokenreduce.layers import (
    PaperScoreNet,
    ReleasedScoreNet,
    min_max_normalize,
)

RELEASED_NAMES = {'in_conv.0': 'norm', 'in_conv.1': 'embed', 'out_conv': 'head'}


def test_released_network(shared_dir):
    case = torch.load(shared_dir / 'parity' / 'perturbed_topk.pt')['score_net']
    net = ReleasedScoreNet(case['input'].shape[-1])
    state = {}
    for name, value in case['state_dict'].items():
        for old, new in RELEASED_NAMES.items():
            name = name.replace(old, new)
        state[name] = value
    net.load_state_dict(state)
    scores = net(case['input'])
    assert_close(scores, case['scores'], rtol=1e-5, atol=1e-6)
    assert_close(min_max_normalize(scores), case['normalised'], rtol=1e-4, atol=1e-5)


def test_paper_network_is_equation_2_and_3():
    net, x = PaperScoreNet(6), torch.randn(2, 5, 6)
    for b in range(2):
        local = torch.stack([net.embed.weight @ q + net.embed.bias for q in x[b]])
        context = sum(local) / 5
        for i in range(5):
            want = (net.head.weight @ torch.cat((local[i], context)) + net.head.bias)[0]
            assert_close(net(x)[b, i], want)


def test_min_max_normalize():
    assert_close(min_max_normalize(torch.tensor([[1., 3., 2.]])),
                 torch.tensor([[0., 1., 0.5]]), rtol=0, atol=1e-5)
    assert min_max_normalize(torch.full((1, 4), 7.)).tolist() == [[0.] * 4]


@pytest.mark.parametrize('net,channels', [(PaperScoreNet, 5), (ReleasedScoreNet, 6)])
def test_channels_that_do_not_divide(net, channels):
    with pytest.raises(ValueError, match=f'divisible by .*in_channels={channels}'):
        net(channels)
